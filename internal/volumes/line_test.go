package volumes

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/internal/host"
)

// line is what one host has of a coordinator that is real. It adds faults and
// counts calls, and does nothing else.
type line struct {
	mu       sync.Mutex // guards the fields below
	store    coordination.Coordinator
	fault    func(ctx context.Context) error  // before each call; nil: none
	changed  chan struct{}                    // closed when fault or store change
	joined   coordination.Session             // the last, of the store
	doubtful func(ops []coordination.Op) bool // whether the answer to that commit is lost
	slow     func(ops []coordination.Op) bool // whether that commit is held up; nil: none is
	late     func() error                     // does the commit that is held up; nil: there is none
	landSoon bool                             // it happens before the next one
	lease    *lease                           // of the sessions to come; nil: that of the store
	suspect  string                           // a host that is said to be down; "": none is
	calls    map[string]int
}

func newLine(store coordination.Coordinator) *line {
	return &line{store: store, changed: make(chan struct{}), calls: make(map[string]int)}
}

// away is a coordinator that can't be reached.
func away(context.Context) error {
	return fmt.Errorf("connection refused: %w", coordination.ErrUnavailable)
}

// hung is one that takes calls and never answers.
func hung(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// fail has each call meet a fault, until it is nil.
func (l *line) fail(fault func(context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = fault
	close(l.changed)
	l.changed = make(chan struct{})
}

// connect replaces the store.
func (l *line) connect(store coordination.Coordinator) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.store = store
	close(l.changed)
	l.changed = make(chan struct{})
}

// loseAnswer has the n-th commit from now that doubts picks happen, and yet
// report ErrUnknown. It returns whether that has come to pass.
func (l *line) loseAnswer(n int, picks func(ops []coordination.Op) bool) (lost func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	happened := false
	l.doubtful = func(ops []coordination.Op) bool { // under mu
		if happened || !picks(ops) {
			return false
		}
		n--
		happened = n == 0
		return happened
	}
	return func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return happened
	}
}

// about picks commits that touch a key which contains word.
func about(word string) func(ops []coordination.Op) bool {
	return func(ops []coordination.Op) bool {
		for _, op := range ops {
			if strings.Contains(op.Record.Key, word) {
				return true
			}
		}
		return false
	}
}

// loseSession ends the host's session, as a time without renewals does.
func (l *line) loseSession() error {
	l.mu.Lock()
	joined := l.joined
	l.mu.Unlock()
	if joined == nil {
		return nil
	}
	return joined.Close(context.Background())
}

// count says how often a method was called.
func (l *line) count(method string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls[method]
}

// pass lets a call through to the store, or fails it.
func (l *line) pass(ctx context.Context, method string) (coordination.Coordinator, error) {
	l.mu.Lock()
	store, fault, changed := l.store, l.fault, l.changed
	l.calls[method]++
	l.mu.Unlock()
	if fault == nil {
		return store, nil
	}
	patient, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // what hung ends when its connection does
		select {
		case <-changed:
			cancel(fmt.Errorf("connection reset: %w", coordination.ErrUnavailable))
		case <-patient.Done():
		}
	}()
	err := fault(patient)
	if ctx.Err() == nil && patient.Err() != nil {
		err = context.Cause(patient)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	return store, nil
}

func (l *line) Join(ctx context.Context, h coordination.Host) (coordination.Session, error) {
	store, err := l.pass(ctx, "Join")
	if err != nil {
		return nil, err
	}
	s, err := store.Join(ctx, h)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.joined = s
	stay, end := context.WithCancelCause(s.Context())
	if l.lease != nil {
		s = leased{s, l.lease}
	}
	return &lineSession{s, l, stay, end}, nil
}

// expire has the sessions to come be believed in for ttl after each renewal,
// which is what renew is. The store's don't end by themselves.
func (l *line) expire(ttl time.Duration) *lease {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lease = &lease{ttl: ttl, renewals: make(chan struct{}, 1)}
	l.lease.renew()
	return l.lease
}

// lease is a session's, renewed by hand.
type lease struct {
	ttl      time.Duration
	renewals chan struct{}

	mu       sync.Mutex // guards the field below
	deadline time.Duration
}

func (l *lease) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deadline = host.BootTime() + l.ttl
	select {
	case l.renewals <- struct{}{}:
	default:
	}
}

// leased is a session with a lease.
type leased struct {
	coordination.Session
	lease *lease
}

func (l leased) TTL() time.Duration       { return l.lease.ttl }
func (l leased) Renewed() <-chan struct{} { return l.lease.renewals }
func (l leased) Deadline() time.Duration {
	l.lease.mu.Lock()
	defer l.lease.mu.Unlock()
	return l.lease.deadline
}

func (l *line) Hosts(ctx context.Context) ([]coordination.Host, error) {
	store, err := l.pass(ctx, "Hosts")
	if err != nil {
		return nil, err
	}
	return store.Hosts(ctx)
}

func (l *line) Host(ctx context.Context, name string) (coordination.Host, error) {
	store, err := l.pass(ctx, "Host")
	if err != nil {
		return coordination.Host{}, err
	}
	h, err := store.Host(ctx, name)
	l.mu.Lock()
	defer l.mu.Unlock()
	h.Suspect = err == nil && name == l.suspect
	return h, err
}

// suspects has Host say of another that something says it is down.
func (l *line) suspects(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.suspect = host
}

func (l *line) Get(ctx context.Context, key string) (coordination.Record, error) {
	store, err := l.pass(ctx, "Get")
	if err != nil {
		return coordination.Record{}, err
	}
	return store.Get(ctx, key)
}

func (l *line) List(ctx context.Context, prefix string) ([]coordination.Record, error) {
	store, err := l.pass(ctx, "List")
	if err != nil {
		return nil, err
	}
	return store.List(ctx, prefix)
}

func (l *line) Keys(ctx context.Context, prefix string) ([]string, error) {
	store, err := l.pass(ctx, "Keys")
	if err != nil {
		return nil, err
	}
	return store.Keys(ctx, prefix)
}

// Watch yields the fault's error now and then, nothing while it hangs, and
// what the store's Watch does otherwise.
func (l *line) Watch(ctx context.Context, prefix string) iter.Seq2[[]coordination.Record, error] {
	return func(yield func([]coordination.Record, error) bool) {
		for ctx.Err() == nil {
			l.mu.Lock()
			changed := l.changed
			l.mu.Unlock()
			until, cancel := context.WithCancel(ctx)
			stop := make(chan struct{})
			go func() {
				select {
				case <-changed:
					cancel()
				case <-stop:
				}
			}()
			more := l.watch(until, prefix, yield)
			close(stop)
			cancel()
			if !more {
				return
			}
		}
	}
}

// watch is Watch until the fault or the store change.
func (l *line) watch(until context.Context, prefix string, yield func([]coordination.Record, error) bool) bool {
	store, err := l.pass(until, "Watch")
	switch {
	case until.Err() != nil:
		return true
	case err != nil:
		if !yield(nil, err) {
			return false
		}
		select {
		case <-until.Done():
		case <-time.After(100 * time.Millisecond):
		}
		return true
	}
	for records, err := range store.Watch(until, prefix) {
		if !yield(records, err) {
			return false
		}
	}
	<-until.Done() // also if the store was closed
	return true
}

func (l *line) Close() error { return nil } // the store is not this host's alone

// lineSession is a session on a line. One that is abandoned is live for all others
// until the host has joined again.
type lineSession struct {
	coordination.Session
	line *line
	stay context.Context
	end  context.CancelCauseFunc
}

func (s *lineSession) Context() context.Context { return s.stay }

func (s *lineSession) Abandon() {
	s.end(fmt.Errorf("%w: it was abandoned", coordination.ErrSessionLost))
}

func (s *lineSession) Commit(ctx context.Context, ops ...coordination.Op) ([]coordination.Record, error) {
	if _, err := s.line.pass(ctx, "Commit"); err != nil {
		return nil, err
	}
	if s.stay.Err() != nil {
		return nil, context.Cause(s.stay)
	}
	if s.line.heldUp(s.Session, ops) {
		return nil, fmt.Errorf("no answer yet: %w", coordination.ErrUnknown)
	}
	s.line.overtaken()
	written, err := s.Session.Commit(ctx, ops...)
	if err != nil {
		return nil, err
	}
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	if s.line.doubtful != nil && s.line.doubtful(ops) {
		return nil, fmt.Errorf("the answer was lost: %w", coordination.ErrUnknown)
	}
	return written, nil
}

func (s *lineSession) Forget(ctx context.Context, h coordination.Host) error {
	if _, err := s.line.pass(ctx, "Forget"); err != nil {
		return err
	}
	return s.Session.Forget(ctx, h)
}

func (s *lineSession) Close(ctx context.Context) error {
	if _, err := s.line.pass(ctx, "Close"); err != nil {
		return err
	}
	return s.Session.Close(ctx)
}
