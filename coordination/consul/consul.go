// Package consul coordinates many hosts through Consul, 1.10 or newer.
//
// Below its prefix it keeps
//
//	records/<key>         the records; a key that ends in a slash is none: see Watch
//	hosts/<name>          a hostEntry, locked by the host's session while it is live
//	commits/<name>/<n>    what makes a transaction happen once; see commit.go
//
// Everything that must be right is decided within one Consul transaction, in
// the order of Raft's log. Reads that a decision may rest on (Get, List, Hosts,
// the first state of a Watch, a host's own entry when it joins, after each
// renewal of its session and when it seems to have lost it) are "consistent":
// the leader asks a quorum whether it is still the leader. The later states of
// a Watch take the leader's word ("default"), Keys that of any server which
// heard of the leader lately ("stale"), and what Consul thinks of a machine's
// health is any server's ("stale"), for it is a hint and no more.
//
// A session lives on a node of its own in the catalog, named for prefix and
// host, with no health check: an agent's restart, or a lost packet between
// agents, does not end it. The policy its token needs is in acl.hcl.
package consul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/coordination"
)

// Store is a Coordinator on Consul.
type Store struct {
	client *client
	cfg    Config
	log    *slog.Logger
	now    func() time.Duration // CLOCK_BOOTTIME, which goes on while the machine sleeps

	ctx   context.Context // ends with the Store
	close context.CancelFunc

	mu       sync.Mutex // guards the fields below
	sessions map[*session]struct{}
	own      map[string]written // by the first word of a key
}

var _ coordination.Coordinator = (*Store)(nil)

var errClosed = fmt.Errorf("%w: closed", coordination.ErrUnavailable)

// Open reads the files that cfg names. It does not ask Consul, which may be
// away; what it can't do then fails with ErrUnavailable.
func Open(cfg Config, log *slog.Logger) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open Consul: %w", err)
	}
	client, err := newClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("open Consul: %w", err)
	}
	if _, err := client.token.read(); err != nil {
		return nil, fmt.Errorf("open Consul: %w", err)
	}
	s := &Store{client: client, cfg: cfg, log: log, now: bootTime, sessions: make(map[*session]struct{}), own: make(map[string]written)}
	s.ctx, s.close = context.WithCancel(context.Background())
	return s, nil
}

// Close ends the sessions that are left, which takes a few seconds at most,
// and every Watch. A closed Store is closed again without error.
func (s *Store) Close() error {
	s.mu.Lock()
	var left []*session
	for e := range s.sessions {
		left = append(left, e)
	}
	s.mu.Unlock()
	errs := make([]error, len(left))
	var all sync.WaitGroup
	for i, e := range left {
		all.Go(func() { errs[i] = e.Close(context.Background()) })
	}
	all.Wait()
	s.close()
	s.client.close()
	return errors.Join(errs...)
}

// within returns a context that ends with ctx or the Store.
func (s *Store) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.ctx, func() { cancel(errClosed) })
	return ctx, func() { stop(); cancel(nil) }
}

func (s *Store) recordKey(key string) string { return s.cfg.Prefix + "/records/" + key }

func (s *Store) hostKey(name string) string { return s.cfg.Prefix + "/hosts/" + name }

// node is the name in the catalog that a host's sessions belong to.
func (s *Store) node(name string) string {
	return strings.ReplaceAll(s.cfg.Prefix, "/", "-") + "-" + name
}

// written is the highest version that a session of this Store wrote, and when.
type written struct {
	version uint64
	at      time.Duration
}

// wrote notes the version of a commit, for Keys.
func (s *Store) wrote(ops []coordination.Op, version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range ops {
		if o.Kind != coordination.OpCheck {
			word, _, _ := strings.Cut(o.Record.Key, "/")
			s.own[word] = written{max(s.own[word].version, version), s.now()}
		}
	}
}

// wroteBelow returns what sessions of this Store wrote last that a list of
// prefix may show.
func (s *Store) wroteBelow(prefix string) (last written) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for word, w := range s.own {
		if (strings.HasPrefix(word+"/", prefix) || strings.HasPrefix(prefix, word+"/")) && w.version > last.version {
			last = w
		}
	}
	return last
}

// bootTime reads CLOCK_BOOTTIME.
func bootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("read the clock: %v", err)) // every Linux since 2.6.39 has it
	}
	return time.Duration(ts.Nano())
}
