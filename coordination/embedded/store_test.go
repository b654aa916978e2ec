package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination"
)

func openStore(t *testing.T) (*Store, coordination.Session) {
	t.Helper()
	s, err := Open(t.Context(), Config{Path: filepath.Join(t.TempDir(), "coordination.db")}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	session, err := s.Join(t.Context(), coordination.Host{Name: "h1", ID: "machine"})
	if err != nil {
		t.Fatal(err)
	}
	return s, session
}

// Whoever waits for another writer stops waiting when its context ends, and
// readers wait for no writer at all.
func TestWaitingForTheWriter(t *testing.T) {
	s, session := openStore(t)
	if err := s.lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, commitErr := session.Commit(ctx, coordination.Put(coordination.Record{Key: "a"}))
	_, joinErr := s.Join(ctx, coordination.Host{Name: "h2", ID: "machine"})
	closeErr := session.Close(ctx)
	for what, err := range map[string]error{"Commit": commitErr, "Join": joinErr, "Close": closeErr} {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got error %v, want %v", what, err, context.DeadlineExceeded)
		}
	}
	if _, err := s.Get(t.Context(), "a"); !errors.Is(err, coordination.ErrNotFound) {
		t.Errorf("Get: got error %v, want %v", err, coordination.ErrNotFound)
	}
	if hosts, err := s.Hosts(t.Context()); err != nil || len(hosts) != 1 {
		t.Errorf("Hosts: %v, %v", hosts, err)
	}
	s.unlock()
	if _, err := session.Commit(t.Context(), coordination.Put(coordination.Record{Key: "a"})); err != nil {
		t.Error(err)
	}
}

// A Watch wakes for its own prefix alone, and nothing is left of one that ended.
func TestWatchers(t *testing.T) {
	s, session := openStore(t)
	commit := func(key string) {
		t.Helper()
		if _, err := session.Commit(t.Context(), coordination.Put(coordination.Record{Key: key})); err != nil {
			t.Error(err)
		}
	}
	yields := 0
	for records, err := range s.Watch(t.Context(), "a/") {
		if err != nil {
			t.Fatal(err)
		}
		switch yields++; yields {
		case 1:
			for i := range 5 {
				commit(fmt.Sprint("ab", i))
			}
			if _, err := session.Commit(t.Context(), coordination.Check(coordination.Record{Key: "a/1"})); err != nil {
				t.Error(err)
			}
			if _, err := session.Commit(t.Context(), coordination.Put(coordination.Record{Key: "a/1", Version: 1})); !errors.Is(err, coordination.ErrConflict) {
				t.Errorf("got error %v, want %v", err, coordination.ErrConflict)
			}
			for w := range s.watchers {
				if len(w.changed) != 0 {
					t.Error("woken, though nothing below its prefix changed")
				}
			}
			commit("a/1")
			commit("a/2")
			continue
		case 2:
			if len(records) != 2 {
				t.Errorf("second time: got %v", records)
			}
		}
		break
	}
	if yields != 2 {
		t.Errorf("yielded %d times, want 2", yields)
	}
	if len(s.watchers) != 0 {
		t.Errorf("%d watchers are left", len(s.watchers))
	}
}

func TestClose(t *testing.T) {
	s, session := openStore(t)
	ended := make(chan error, 1)
	yielded := make(chan struct{}, 1)
	go func() {
		for _, err := range s.Watch(t.Context(), "") {
			if err != nil {
				ended <- err
				return
			}
			yielded <- struct{}{}
		}
		ended <- nil
	}()
	<-yielded
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Watch: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Watch did not end with the store")
	}
	if got := context.Cause(session.Context()); !errors.Is(got, coordination.ErrSessionLost) {
		t.Errorf("session: got cause %v, want %v", got, coordination.ErrSessionLost)
	}
	if _, err := session.Commit(t.Context()); !errors.Is(err, coordination.ErrSessionLost) {
		t.Errorf("Commit: got error %v, want %v", err, coordination.ErrSessionLost)
	}
	if _, err := s.Join(t.Context(), coordination.Host{Name: "h1", ID: "machine"}); !errors.Is(err, coordination.ErrUnavailable) {
		t.Errorf("Join: got error %v, want %v", err, coordination.ErrUnavailable)
	}
	if _, err := s.Get(t.Context(), "a"); err == nil || errors.Is(err, coordination.ErrNotFound) {
		t.Errorf("Get: got error %v, want another", err)
	}
	yields := 0
	for _, err := range s.Watch(t.Context(), "") {
		if yields++; err == nil {
			t.Error("Watch of a closed store yielded records")
		}
	}
	if yields != 1 {
		t.Errorf("Watch of a closed store yielded %d times, want once", yields)
	}
}
