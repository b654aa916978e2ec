package consul

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/dvol/dvold/coordination"
)

// session is the stay of a host. Its context ends for ever as soon as one of
// these is so: the lease is over; Consul says that the session is gone; the
// host's key is not locked by it; it was closed.
//
// It is not an api.Lock, which counts the lease from the answer, notices no
// renewal that hangs, and guards one key alone.
type session struct {
	store       *Store
	host        coordination.Host
	key         string // of the host
	id          string
	incarnation uint64
	value       []byte     // of the key
	slots       chan *slot // those that no transaction uses

	ctx   context.Context
	end   context.CancelCauseFunc
	tasks sync.WaitGroup

	mu      sync.Mutex // guards lease, and end: a session that has ended is not renewed
	lease   lease
	renewed chan struct{} // of capacity 1: full while there is a renewal to look at

	closing  sync.Mutex // held by Close; guards released
	released bool
}

var _ coordination.Session = (*session)(nil)

// start begins to keep a session whose key is locked, with value.
func (e *session) start(ctx context.Context, value []byte) *session {
	s := e.store
	e.value = value
	e.ctx, e.end = context.WithCancelCause(context.WithoutCancel(ctx))
	e.renewed = make(chan struct{}, 1)
	e.slots = make(chan *slot, slots)
	for i := range slots {
		e.slots <- &slot{key: s.commitKey(e.host.Name, fmt.Sprint(i))}
	}
	s.mu.Lock()
	s.sessions[e] = struct{}{}
	s.mu.Unlock()
	e.tasks.Go(e.keep)
	e.tasks.Go(e.expire)
	e.tasks.Go(e.watch)
	return e
}

// Incarnation numbers this stay of the host.
func (e *session) Incarnation() uint64 { return e.incarnation }

// Context ends with the session, with cause ErrSessionLost: TTL less margin
// after the last renewal that counts was sent, or earlier. After the machine
// slept it may end a second late, but nothing is committed in that second.
func (e *session) Context() context.Context { return e.ctx }

// Deadline is TTL less margin after the last renewal that counts was sent.
func (e *session) Deadline() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lease.end()
}

// Renewed receives after each renewal that counts.
func (e *session) Renewed() <-chan struct{} { return e.renewed }

// TTL is that of the session in Consul, which waits for twice as long.
func (e *session) TTL() time.Duration { return e.store.cfg.TTL }

// live returns why the session has ended, or nil.
func (e *session) live() error {
	if e.ctx.Err() == nil && e.left() == 0 {
		e.lose("no renewal within %v", e.store.cfg.TTL-margin)
	}
	return context.Cause(e.ctx)
}

func (e *session) left() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lease.left(e.store.now())
}

// lose ends the session, if that is news.
func (e *session) lose(format string, args ...any) {
	if e.ctx.Err() != nil {
		return
	}
	reason := fmt.Sprintf(format, args...)
	e.store.log.Warn("the session is lost", "host", e.host.Name, "incarnation", e.incarnation, "reason", reason)
	e.finish(fmt.Errorf("%w: %s", coordination.ErrSessionLost, reason))
}

// finish ends the session, after which its lease does not grow.
func (e *session) finish(cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.end(cause)
}

// expire ends the session with its lease. It looks each second, for timers do
// not count the time a machine sleeps.
func (e *session) expire() {
	for e.live() == nil {
		sleep(e.ctx, min(e.left(), time.Second))
	}
}

// keep renews the session, five times per TTL, and more often while it fails.
func (e *session) keep() {
	ttl := e.store.cfg.TTL
	failing := false
	for wait := ttl / 5; sleep(e.ctx, wait); {
		err := e.renew()
		if e.ctx.Err() != nil {
			return
		}
		if (err != nil) != failing {
			failing = err != nil
			if failing {
				e.store.log.Warn("can't renew the session", "host", e.host.Name, "error", err, "left", e.left())
			} else {
				e.store.log.Info("renewed the session again", "host", e.host.Name)
			}
		}
		if wait = ttl / 5; failing {
			wait = min(500*time.Millisecond, ttl/20)
		}
	}
}

// renew renews the session once. The renewal counts if the key is read
// afterwards, consistently, and still locked: whoever answered may have been
// deposed, and then renews what has ended.
func (e *session) renew() error {
	sent, err := e.renewOnce()
	if err == nil {
		err = e.confirm()
	}
	if err != nil {
		return err
	}
	if !e.count(sent) {
		return e.live()
	}
	return nil
}

// count counts a renewal that was sent then and has just been answered, and
// tells whether the session goes on.
func (e *session) count(sent time.Duration) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil || !e.lease.renew(sent, e.store.now()) {
		return false
	}
	select {
	case e.renewed <- struct{}{}:
	default: // the last was not looked at yet
	}
	return true
}

// renewOnce asks Consul for a renewal and returns when it did.
func (e *session) renewOnce() (sent time.Duration, err error) {
	sent = e.store.now()
	var renewed *api.SessionEntry
	if f := e.store.client.try(e.ctx, e.callTime(), func(consul *api.Client, q *api.QueryOptions) (err error) {
		renewed, _, err = consul.Session().Renew(e.id, writing(q))
		return err
	}); f != nil {
		return 0, f
	}
	if renewed == nil {
		// A server that fell behind may not have heard of the session yet.
		if err := e.confirm(); err != nil {
			e.lose("Consul ended it")
			return 0, err
		}
		return 0, &failure{agent: "Consul", status: http.StatusNotFound, text: "no such session"}
	}
	return sent, nil
}

// callTime bounds one attempt: several must fit into a TTL.
func (e *session) callTime() time.Duration { return min(readTime, e.store.cfg.TTL/4) }

// confirm reads consistently who has locked the key, and ends the session if
// that is another one, or none.
func (e *session) confirm() error {
	ctx, cancel := context.WithTimeout(e.ctx, e.callTime())
	defer cancel()
	found, err := e.store.pair(ctx, e.key)
	if err != nil {
		return err
	}
	if found.Session == e.id {
		return nil
	}
	if found.Session == "" {
		e.lose("Consul ended it, or its key was unlocked")
	} else {
		e.lose("session %s took over", found.Session)
	}
	return context.Cause(e.ctx)
}

// watch waits for another session to take over, or for Consul to end this one.
// What it sees may be old, so it is confirmed.
func (e *session) watch() {
	var found *api.KVPair
	read := func(consul *api.Client, q *api.QueryOptions) (meta *api.QueryMeta, err error) {
		found, meta, err = consul.KV().Get(e.key, q)
		return meta, err
	}
	var last uint64
	for e.ctx.Err() == nil {
		index, err := e.store.client.poll(e.ctx, e.callTime(), last, min(watchTime, e.store.cfg.TTL/2), read)
		if e.ctx.Err() != nil {
			return
		}
		gap := pause
		if err != nil {
			gap = time.Second / 2
		}
		if last = index; err == nil && (found == nil || found.Session != e.id) {
			if e.confirm() != nil {
				last = 0
			}
		}
		sleep(e.ctx, gap)
	}
}

// Close ends the session: here at once, then in Consul by unlocking the host's
// key, within a few seconds. After it returned nil, nothing that the session
// was asked to commit can still happen.
func (e *session) Close(ctx context.Context) error {
	e.closing.Lock()
	defer e.closing.Unlock()
	if e.released {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("end the session of %s: %w", e.host.Name, err)
	}
	s := e.store
	e.finish(fmt.Errorf("%w: it was closed", coordination.ErrSessionLost))
	e.tasks.Wait()
	whole, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	for {
		out, f := s.client.txn(whole, api.KVTxnOps{{Verb: api.KVUnlock, Key: e.key, Session: e.id, Value: e.value}})
		if f == nil {
			s.destroy(ctx, e.id)
			s.log.InfoContext(ctx, "left", "host", e.host.Name, "incarnation", e.incarnation, "lost", len(out.refused) > 0)
			break
		}
		if f.final() || !sleep(whole, pause) {
			if ctx.Err() != nil {
				return fmt.Errorf("end the session of %s: %w", e.host.Name, ctx.Err())
			}
			return fmt.Errorf("end the session of %s: %w: %w", e.host.Name, coordination.ErrUnavailable, f)
		}
	}
	e.released = true
	s.mu.Lock()
	delete(s.sessions, e)
	s.mu.Unlock()
	return nil
}

// Abandon leaves the session to Consul, which ends it in its time.
func (e *session) Abandon() {
	e.closing.Lock()
	defer e.closing.Unlock()
	if e.released {
		return
	}
	e.finish(fmt.Errorf("%w: it was abandoned", coordination.ErrSessionLost))
	e.tasks.Wait()
	e.released = true
	e.store.mu.Lock()
	defer e.store.mu.Unlock()
	delete(e.store.sessions, e)
	e.store.log.Info("went, and will be missed only when the session has expired", "host", e.host.Name, "incarnation", e.incarnation)
}
