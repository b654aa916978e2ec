// Package coordtest tests that a Coordinator keeps its contract.
package coordtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination"
)

// patience is how long a test waits for what ought to happen soon, with room
// for a cluster whose leader has just changed.
const patience = 30 * time.Second

// Run runs the suite. Each of its tests calls fresh once, for an empty state
// of its own, and with what that returns opens the state, as often as it
// likes, but never while it is open already. The test closes what it opens.
func Run(t *testing.T, fresh func(t *testing.T) (open func() coordination.Coordinator)) {
	t.Helper()
	for _, group := range [][]test{recordTests(), commitTests(), sessionTests(), leaseTests(), hostTests(), forgetTests(), watchTests(), concurrencyTests()} {
		for _, c := range group {
			t.Run(c.name, func(t *testing.T) {
				s := &state{t: t, open: fresh(t)}
				t.Cleanup(s.close)
				s.Coordinator = s.open()
				c.run(t, s)
			})
		}
	}
}

type test struct {
	name string
	run  func(t *testing.T, s *state)
}

// state is the Coordinator under test and what must be closed before it.
type state struct {
	coordination.Coordinator
	t        *testing.T
	open     func() coordination.Coordinator
	sessions []coordination.Session
}

// close closes the sessions and the Coordinator.
func (s *state) close() {
	s.t.Helper()
	if s.Coordinator == nil {
		return // open ended the test
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, session := range s.sessions {
		if err := session.Close(ctx); err != nil {
			s.t.Errorf("close session: %v", err)
		}
	}
	if err := s.Coordinator.Close(); err != nil {
		s.t.Errorf("close coordinator: %v", err)
	}
	s.sessions, s.Coordinator = nil, nil
}

// reopen does to the state what a restart of dvold does.
func (s *state) reopen() {
	s.t.Helper()
	s.close()
	s.Coordinator = s.open()
}

// host is a host of that name on a machine of its own.
func host(name string) coordination.Host {
	return coordination.Host{Name: name, ID: "id-of-" + name, Boot: "boot-of-" + name}
}

// join joins h and sees to it that the session is closed.
func (s *state) join(h coordination.Host) coordination.Session {
	s.t.Helper()
	session, err := s.Join(s.t.Context(), h)
	if err != nil {
		s.t.Fatalf("Join(%+v): %v", h, err)
	}
	s.sessions = append(s.sessions, session)
	return session
}

// commit commits ops, which must succeed.
func commit(t *testing.T, session coordination.Session, ops ...coordination.Op) []coordination.Record {
	t.Helper()
	put, err := session.Commit(t.Context(), ops...)
	if err != nil {
		t.Fatalf("Commit of %d operations: %v", len(ops), err)
	}
	return put
}

// create makes a record, which must succeed.
func create(t *testing.T, session coordination.Session, key, value string) coordination.Record {
	t.Helper()
	put := commit(t, session, coordination.Put(coordination.Record{Key: key, Value: []byte(value)}))
	if len(put) != 1 {
		t.Fatalf("Commit of one Put returned %d records", len(put))
	}
	return put[0]
}

// list returns what there is below prefix, without versions.
func (s *state) list(prefix string) map[string]string {
	s.t.Helper()
	records, err := s.List(s.t.Context(), prefix)
	if err != nil {
		s.t.Fatalf("List(%q): %v", prefix, err)
	}
	return values(records)
}

func values(records []coordination.Record) map[string]string {
	m := make(map[string]string)
	for _, r := range records {
		m[r.Key] = string(r.Value)
	}
	return m
}

// wantError fails the test unless got is want, in the sense of errors.Is.
func wantError(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

// wantEnd fails the test unless the session ends soon, and as lost.
func wantEnd(t *testing.T, session coordination.Session) {
	t.Helper()
	select {
	case <-session.Context().Done():
	case <-time.After(patience):
		t.Fatal("the session's context has not ended")
	}
	wantError(t, "cause of the end", context.Cause(session.Context()), coordination.ErrSessionLost)
}
