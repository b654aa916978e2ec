package coordtest

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination"
)

func watchTests() []test {
	return []test{
		{"WatchNow", testWatchNow},
		{"WatchEachChange", testWatchEachChange},
		{"WatchChangeBetween", testWatchChangeBetween},
		{"WatchOtherPrefix", testWatchOtherPrefix},
		{"WatchCancelledWhileWaiting", testWatchCancelledWhileWaiting},
		{"WatchCancelledInside", testWatchCancelledInside},
		{"WatchAgain", testWatchAgain},
		{"WatchersSeeTheLatest", testWatchersSeeTheLatest},
	}
}

// follow watches prefix until seen returns true for what was yielded, which
// must happen soon. An error that Watch yields ends the test.
func (s *state) follow(prefix string, seen func(map[string]string) bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	last := map[string]string{"nothing": "yielded"}
	for records, err := range s.Watch(ctx, prefix) {
		if err != nil {
			s.t.Errorf("Watch(%q) yielded error: %v", prefix, err)
			return
		}
		last = values(records)
		if seen(last) {
			return
		}
	}
	s.t.Errorf("Watch(%q) got stuck at %v", prefix, last)
}

func testWatchNow(t *testing.T, s *state) {
	s.follow("a/", func(got map[string]string) bool {
		if len(got) != 0 {
			t.Errorf("first of an empty store: got %v", got)
		}
		return true
	})
	session := s.join(host("h1"))
	create(t, session, "a/1", "x")
	create(t, session, "a/2", "y")
	create(t, session, "ab", "z")
	s.follow("a/", func(got map[string]string) bool {
		if want := map[string]string{"a/1": "x", "a/2": "y"}; !maps.Equal(got, want) {
			t.Errorf("first: got %v, want %v", got, want)
		}
		return true
	})
}

func testWatchEachChange(t *testing.T, s *state) {
	session := s.join(host("h1"))
	var r coordination.Record // the last put
	put := func(key, value string, version uint64) {
		records, err := session.Commit(t.Context(), coordination.Put(coordination.Record{Key: key, Value: []byte(value), Version: version}))
		if err != nil {
			t.Errorf("Commit: %v", err)
			return
		}
		r = records[0]
	}
	steps := []struct {
		change func()
		want   map[string]string
	}{
		{func() {}, map[string]string{}},
		{func() { put("a/2", "y", 0) }, map[string]string{"a/2": "y"}},
		{func() { put("a/1", "x", 0) }, map[string]string{"a/1": "x", "a/2": "y"}},
		{func() { put("a/1", "X", r.Version) }, map[string]string{"a/1": "X", "a/2": "y"}},
		{func() {
			if _, err := session.Commit(t.Context(), coordination.Delete(r)); err != nil {
				t.Errorf("Commit: %v", err)
			}
		}, map[string]string{"a/2": "y"}},
		{func() { put("a/1", "again", 0) }, map[string]string{"a/1": "again", "a/2": "y"}},
	}
	// Each change is made while Watch waits, by another goroutine, after what
	// the one before brought was seen.
	next := make(chan func())
	var changes sync.WaitGroup
	changes.Go(func() {
		for change := range next {
			change()
		}
	})
	step := 0
	s.follow("a/", func(got map[string]string) bool {
		if !maps.Equal(got, steps[step].want) {
			return false // of an earlier change, or of none
		}
		if step++; step == len(steps) {
			return true
		}
		next <- steps[step].change
		return false
	})
	close(next)
	changes.Wait()
}

func testWatchChangeBetween(t *testing.T, s *state) {
	session := s.join(host("h1"))
	r := create(t, session, "a", "0")
	rounds := 0
	s.follow("a", func(got map[string]string) bool {
		if got["a"] != fmt.Sprint(rounds) {
			return false
		}
		if rounds++; rounds == 10 {
			return true
		}
		// Watch does not wait now, and must yield this nevertheless.
		r = commit(t, session, coordination.Put(coordination.Record{Key: "a", Value: fmt.Append(nil, rounds), Version: r.Version}))[0]
		return false
	})
}

func testWatchOtherPrefix(t *testing.T, s *state) {
	session := s.join(host("h1"))
	create(t, session, "other", "0")
	started := false
	s.follow("a/", func(got map[string]string) bool {
		for key := range got {
			if !strings.HasPrefix(key, "a/") {
				t.Errorf("yielded %s", key)
			}
		}
		if !started { // it may be woken by others, but by its own it must
			started = true
			create(t, session, "a", "1")
			create(t, session, "ab", "1")
			create(t, session, "a/1", "1")
		}
		return got["a/1"] == "1"
	})
}

func testWatchCancelledWhileWaiting(t *testing.T, s *state) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	yielded, ended := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for range s.Watch(ctx, "a") {
			select {
			case yielded <- struct{}{}:
			default:
			}
		}
	}()
	deadline := time.After(patience)
	select {
	case <-yielded:
	case <-deadline:
		t.Error("Watch yielded nothing")
	}
	cancel()
	select {
	case <-ended:
	case <-deadline:
		t.Fatal("Watch did not end with its context")
	}
}

func testWatchCancelledInside(t *testing.T, s *state) {
	session := s.join(host("h1"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	yields := 0
	for range s.Watch(ctx, "a") {
		yields++
		cancel()
		create(t, session, fmt.Sprint("a", yields), "1")
	}
	if yields != 1 {
		t.Errorf("yielded %d times, want once", yields)
	}
}

func testWatchAgain(t *testing.T, s *state) {
	session := s.join(host("h1"))
	seq := s.Watch(t.Context(), "a")
	for i := range 3 {
		create(t, session, fmt.Sprint("a", i), "1")
		for records, err := range seq {
			if err != nil || len(records) != i+1 {
				t.Errorf("range %d began with %v, %v", i, records, err)
			}
			break
		}
	}
}

func testWatchersSeeTheLatest(t *testing.T, s *state) {
	const watchers, writers, writes = 8, 4, 10
	session := s.join(host("h1"))
	var all sync.WaitGroup
	for range watchers {
		all.Go(func() {
			s.follow("a/", func(got map[string]string) bool {
				for w := range writers {
					if got[fmt.Sprint("a/", w)] != fmt.Sprint(writes) {
						return false
					}
				}
				return true
			})
		})
	}
	for w := range writers {
		all.Go(func() {
			r := coordination.Record{Key: fmt.Sprint("a/", w)}
			for i := range writes {
				r.Value = fmt.Append(nil, i+1)
				put, err := session.Commit(t.Context(), coordination.Put(r))
				if err != nil {
					t.Errorf("Commit: %v", err)
					return
				}
				r = put[0]
			}
		})
	}
	all.Wait()
}
