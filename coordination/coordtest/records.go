package coordtest

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination"
)

func recordTests() []test {
	return []test{
		{"Empty", testEmpty},
		{"Get", testGet},
		{"ListByPrefix", testListByPrefix},
		{"KeysShowOwnCommits", testKeysShowOwnCommits},
		{"Values", testValues},
		{"ValuesAreCopies", testValuesAreCopies},
		{"Durable", testDurable},
		{"EndedContext", testEndedContext},
	}
}

func testEmpty(t *testing.T, s *state) {
	_, err := s.Get(t.Context(), "a")
	wantError(t, "Get", err, coordination.ErrNotFound)
	s.join(host("h1")) // hosts are not records
	if got := s.list(""); len(got) != 0 {
		t.Errorf("List: got %v, want nothing", got)
	}
	keys, err := s.Keys(t.Context(), "")
	if err != nil || len(keys) != 0 {
		t.Errorf("Keys: got %v, %v, want nothing", keys, err)
	}
}

func testGet(t *testing.T, s *state) {
	made := create(t, s.join(host("h1")), "volumes/a", "1")
	for range 2 {
		got, err := s.Get(t.Context(), "volumes/a")
		if err != nil {
			t.Fatal(err)
		}
		if got.Key != "volumes/a" || string(got.Value) != "1" || got.Version != made.Version || got.Version == 0 {
			t.Errorf("Get: got %+v, want %+v", got, made)
		}
	}
	for _, key := range []string{"volumes", "volumes/", "volumes/a/", "volumes/A", "volumes/ab", "olumes/a"} {
		_, err := s.Get(t.Context(), key)
		wantError(t, "Get "+key, err, coordination.ErrNotFound)
	}
}

func testListByPrefix(t *testing.T, s *state) {
	session := s.join(host("h1"))
	all := []string{"a", "a/b", "a/b/c", "a/b/d", "a/bc", "a/c", "ab", "b/a", "B"}
	for _, key := range all {
		create(t, session, key, "value of "+key)
	}
	for prefix, want := range map[string][]string{
		"":       {"B", "a", "a/b", "a/b/c", "a/b/d", "a/bc", "a/c", "ab", "b/a"},
		"a":      {"a", "a/b", "a/b/c", "a/b/d", "a/bc", "a/c", "ab"},
		"a/":     {"a/b", "a/b/c", "a/b/d", "a/bc", "a/c"},
		"a/b":    {"a/b", "a/b/c", "a/b/d", "a/bc"},
		"a/b/":   {"a/b/c", "a/b/d"},
		"a/b/d":  {"a/b/d"},
		"a/b/d/": nil,
		"c":      nil,
	} {
		records, err := s.List(t.Context(), prefix)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range records {
			got = append(got, r.Key)
			if string(r.Value) != "value of "+r.Key || r.Version == 0 {
				t.Errorf("List(%q): got record %+v", prefix, r)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("List(%q): got %q, want %q", prefix, got, want)
		}
		s.wantKeys(prefix, want...)
	}
}

// wantKeys compares Keys with what the state's own sessions committed last.
func (s *state) wantKeys(prefix string, want ...string) {
	s.t.Helper()
	if got, err := s.Keys(s.t.Context(), prefix); err != nil || !slices.Equal(got, want) {
		s.t.Fatalf("Keys(%q): got %q, %v, want %q", prefix, got, err, want)
	}
}

// Keys shows each commit at once, also where the commit before was elsewhere.
func testKeysShowOwnCommits(t *testing.T, s *state) {
	sessions := []coordination.Session{s.join(host("h1")), s.join(host("h2"))}
	for i := range 20 {
		session := sessions[i%2]
		a := create(t, session, "a/1", "1")
		s.wantKeys("a/", "a/1")
		b := create(t, session, "b/1", "1")
		s.wantKeys("a/", "a/1")
		s.wantKeys("b/", "b/1")
		s.wantKeys("", "a/1", "b/1")
		commit(t, session, coordination.Delete(a), coordination.Put(coordination.Record{Key: "a/2", Value: []byte("1")}))
		s.wantKeys("a/", "a/2")
		last, err := s.Get(t.Context(), "a/2")
		if err != nil {
			t.Fatal(err)
		}
		commit(t, session, coordination.Delete(last), coordination.Delete(b))
		s.wantKeys("a/")
		s.wantKeys("")
	}
}

func testValues(t *testing.T, s *state) {
	session := s.join(host("h1"))
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for name, want := range map[string][]byte{
		"nil":    nil,
		"empty":  {},
		"zero":   {0},
		"every":  every,
		"utf8":   []byte("größe, 容量"),
		"broken": {0xff, 0xfe, 0xc0},
		"large":  bytes.Repeat(every, coordination.MaxBytes/len(every)),
	} {
		put := commit(t, session, coordination.Put(coordination.Record{Key: name, Value: want}))
		if len(put) != 1 || put[0].Key != name || !bytes.Equal(put[0].Value, want) || put[0].Version == 0 {
			t.Errorf("%s: Commit returned something else than was put", name)
		}
		got, err := s.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Value, want) {
			t.Errorf("%s: got %d bytes, want other %d", name, len(got.Value), len(want))
		}
	}
}

func testValuesAreCopies(t *testing.T, s *state) {
	session := s.join(host("h1"))
	want := strings.Repeat("value", 2000) // of several pages, not stored within another
	value := []byte(want)
	put := commit(t, session, coordination.Put(coordination.Record{Key: "a", Value: value}))
	got, err := s.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	listed, err := s.List(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	slices := [][]byte{value, put[0].Value, got.Value, listed[0].Value}
	for i, slice := range slices {
		slice[0] = 'X'
		again, err := s.Get(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if string(again.Value) != want {
			t.Fatalf("slice %d of a caller is part of the store", i)
		}
		for j, other := range slices[i+1:] {
			if string(other) != want {
				t.Fatalf("slices %d and %d of callers are one", i, i+1+j)
			}
		}
	}
}

func testDurable(t *testing.T, s *state) {
	session := s.join(host("h1"))
	a, b := create(t, session, "a", "1"), create(t, session, "b", "1")
	a = commit(t, session, coordination.Put(coordination.Record{Key: "a", Value: []byte("2"), Version: a.Version}))[0]
	commit(t, session, coordination.Delete(b))
	for range 2 {
		s.reopen()
		if got, want := s.list(""), map[string]string{"a": "2"}; !maps.Equal(got, want) {
			t.Fatalf("after reopening: got %v, want %v", got, want)
		}
		if got, err := s.Get(t.Context(), "a"); err != nil || got.Version != a.Version {
			t.Errorf("after reopening: got version %d, %v, want %d", got.Version, err, a.Version)
		}
	}
	again := create(t, s.join(host("h1")), "b", "1")
	if again.Version <= b.Version {
		t.Errorf("deleted before and made after reopening: version %d follows %d", again.Version, b.Version)
	}
}

func testEndedContext(t *testing.T, s *state) {
	session := s.join(host("h1"))
	kept := create(t, session, "kept", "1")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	expired, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for ctx, want := range map[context.Context]error{cancelled: context.Canceled, expired: context.DeadlineExceeded} {
		_, err := s.Get(ctx, "kept")
		wantError(t, "Get", err, want)
		_, err = s.List(ctx, "")
		wantError(t, "List", err, want)
		_, err = s.Keys(ctx, "")
		wantError(t, "Keys", err, want)
		_, err = s.Hosts(ctx)
		wantError(t, "Hosts", err, want)
		_, err = s.Join(ctx, host("h2"))
		wantError(t, "Join", err, want)
		_, err = session.Commit(ctx)
		wantError(t, "Commit of nothing", err, want)
		_, err = session.Commit(ctx, coordination.Delete(kept), coordination.Put(coordination.Record{Key: "new"}))
		wantError(t, "Commit", err, want)
		for records, err := range s.Watch(ctx, "") {
			t.Errorf("Watch yielded %v, %v", records, err)
		}
	}
	if got, want := s.list(""), map[string]string{"kept": "1"}; !maps.Equal(got, want) {
		t.Errorf("records: got %v, want %v", got, want)
	}
	s.wantHosts("h1 live")
}
