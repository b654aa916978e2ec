package coordtest

import (
	"context"
	"testing"

	"github.com/dvol/dvold/coordination"
)

func forgetTests() []test {
	return []test{
		{"Forget", testForget},
		{"ForgetConflicts", testForgetConflicts},
		{"ForgottenJoinsAgain", testForgottenJoinsAgain},
		{"ForgetAfterReopening", testForgetAfterReopening},
		{"ForgetNeedsASession", testForgetNeedsASession},
		{"ForgetOrJoin", testForgetOrJoin},
	}
}

// left joins and leaves as name, and returns the host as Hosts shows it.
func (s *state) left(name string) coordination.Host {
	s.t.Helper()
	session := s.join(host(name))
	if err := session.Close(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	return s.named(name)
}

// named returns the host of that name, which Hosts must show.
func (s *state) named(name string) coordination.Host {
	s.t.Helper()
	hosts, err := s.Hosts(s.t.Context())
	if err != nil {
		s.t.Fatalf("Hosts: %v", err)
	}
	for _, h := range hosts {
		if h.Name == name {
			return h
		}
	}
	s.t.Fatalf("Hosts: got %+v, want %s among them", hosts, name)
	return coordination.Host{}
}

func forget(t *testing.T, session coordination.Session, h coordination.Host) {
	t.Helper()
	if err := session.Forget(t.Context(), h); err != nil {
		t.Fatalf("Forget(%+v): %v", h, err)
	}
}

func testForget(t *testing.T, s *state) {
	session := s.join(host("h1"))
	gone := s.left("gone")
	s.left("other")
	kept := create(t, session, "a", "1")
	forget(t, session, gone)
	s.wantHosts("h1 live", "other")
	wantError(t, "Forget again", session.Forget(t.Context(), gone), coordination.ErrConflict)
	s.wantHosts("h1 live", "other")
	if got, err := s.Get(t.Context(), "a"); err != nil || got.Version != kept.Version {
		t.Errorf("Forget changed a record: got %+v, %v, want %+v", got, err, kept)
	}
}

func testForgetConflicts(t *testing.T, s *state) {
	session := s.join(host("h1"))
	other := s.join(host("live"))
	old := s.left("old")
	s.left("old")
	later := s.named("old")
	later.Version++
	for what, h := range map[string]coordination.Host{
		"a live host":       s.named("live"),
		"itself":            s.named("h1"),
		"an older version":  old,
		"a later version":   later,
		"version 0":         {Name: "old"},
		"a host never seen": {Name: "never"},
		"one not seen at 7": {Name: "never", Version: 7},
	} {
		wantError(t, "Forget "+what, session.Forget(t.Context(), h), coordination.ErrConflict)
	}
	s.wantHosts("h1 live", "live live", "old")
	create(t, other, "a", "1")
	create(t, session, "b", "1")
}

func testForgottenJoinsAgain(t *testing.T, s *state) {
	session := s.join(host("h1"))
	last := s.left("gone")
	for range 3 {
		forget(t, session, last)
		s.wantHosts("h1 live")
		// It was given away to another machine.
		again := s.join(coordination.Host{Name: "gone", ID: "another", Boot: "another"})
		s.wantHosts("gone live", "h1 live")
		if again.Incarnation() <= last.Incarnation {
			t.Errorf("forgotten and back: incarnation %d follows %d", again.Incarnation(), last.Incarnation)
		}
		commit(t, again)
		if err := again.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		h := s.named("gone")
		if h.ID != "another" || h.Version <= last.Version {
			t.Errorf("got %+v after %+v", h, last)
		}
		last = h
	}
}

func testForgetAfterReopening(t *testing.T, s *state) {
	s.left("gone")
	s.join(host("h1"))
	s.reopen()
	session := s.join(host("h2"))
	gone := s.named("gone")
	forget(t, session, gone)
	s.reopen()
	s.wantHosts("h1", "h2")
	if again := s.join(host("gone")); again.Incarnation() <= gone.Incarnation {
		t.Errorf("incarnation %d follows %d", again.Incarnation(), gone.Incarnation)
	}
}

func testForgetNeedsASession(t *testing.T, s *state) {
	gone := s.left("gone")
	session := s.join(host("h1"))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	wantError(t, "Forget, context ended", session.Forget(cancelled, gone), context.Canceled)
	if err := session.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantError(t, "Forget after Close", session.Forget(t.Context(), gone), coordination.ErrSessionLost)
	s.wantHosts("gone", "h1")
}

// A host that joins while it is being forgotten is not forgotten.
func testForgetOrJoin(t *testing.T, s *state) {
	session := s.join(host("h1"))
	for range 10 {
		h := s.left("h2")
		var joined coordination.Session
		together(2, func(i int) {
			var err error
			if i == 0 {
				if joined, err = s.Join(t.Context(), host("h2")); err != nil {
					t.Errorf("Join: %v", err)
				}
			} else if err = session.Forget(t.Context(), h); err != nil {
				wantError(t, "Forget", err, coordination.ErrConflict)
			}
		})
		if joined == nil {
			return
		}
		s.sessions = append(s.sessions, joined)
		s.wantHosts("h1 live", "h2 live")
		if joined.Incarnation() <= h.Incarnation {
			t.Errorf("incarnation %d follows %d", joined.Incarnation(), h.Incarnation)
		}
		if err := joined.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
