package coordtest

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/dvol/dvold/coordination"
)

func commitTests() []test {
	return []test{
		{"CommitOfNothing", testCommitOfNothing},
		{"Put", testPut},
		{"Delete", testDelete},
		{"Check", testCheck},
		{"VersionsGrow", testVersionsGrow},
		{"AllOfATransaction", testAllOfATransaction},
		{"NothingOfATransaction", testNothingOfATransaction},
		{"Limits", testLimits},
		{"Malformed", testMalformed},
	}
}

func testCommitOfNothing(t *testing.T, s *state) {
	session := s.join(host("h1"))
	if put := commit(t, session); len(put) != 0 {
		t.Errorf("got records %v", put)
	}
	if err := session.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := session.Commit(t.Context())
	wantError(t, "Commit of nothing, session closed", err, coordination.ErrSessionLost)
}

func testPut(t *testing.T, s *state) {
	session := s.join(host("h1"))
	first := create(t, session, "a", "1")

	_, err := session.Commit(t.Context(), coordination.Put(coordination.Record{Key: "a", Value: []byte("x")}))
	wantError(t, "create what exists", err, coordination.ErrConflict)

	second := commit(t, session, coordination.Put(coordination.Record{Key: "a", Value: []byte("2"), Version: first.Version}))[0]
	if second.Version <= first.Version {
		t.Errorf("version %d follows %d", second.Version, first.Version)
	}
	_, err = session.Commit(t.Context(), coordination.Put(coordination.Record{Key: "a", Value: []byte("x"), Version: first.Version}))
	wantError(t, "put over an older version", err, coordination.ErrConflict)
	_, err = session.Commit(t.Context(), coordination.Put(coordination.Record{Key: "a", Value: []byte("x"), Version: second.Version + 1}))
	wantError(t, "put over a later version", err, coordination.ErrConflict)
	_, err = session.Commit(t.Context(), coordination.Put(coordination.Record{Key: "b", Value: []byte("x"), Version: second.Version}))
	wantError(t, "put over nothing", err, coordination.ErrConflict)

	if got, want := s.list(""), map[string]string{"a": "2"}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	// What Commit returned is fit for the next Commit.
	commit(t, session, coordination.Put(second))
}

func testDelete(t *testing.T, s *state) {
	session := s.join(host("h1"))
	first := create(t, session, "a", "1")
	second := commit(t, session, coordination.Put(coordination.Record{Key: "a", Value: []byte("2"), Version: first.Version}))[0]

	refused := func(what string, r coordination.Record) {
		t.Helper()
		put, err := session.Commit(t.Context(), coordination.Put(coordination.Record{Key: "new"}), coordination.Delete(r))
		wantError(t, "delete "+what, err, coordination.ErrConflict)
		if len(put) != 0 {
			t.Errorf("delete %s: got records %v", what, put)
		}
	}
	refused("an older version", first)
	refused("a later version", coordination.Record{Key: "a", Version: second.Version + 1})
	refused("version 0 of what exists", coordination.Record{Key: "a"})
	refused("what was never made", coordination.Record{Key: "b", Version: second.Version})
	refused("version 0 of what was never made", coordination.Record{Key: "b"})
	if got, want := s.list(""), map[string]string{"a": "2"}; !maps.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}

	if put := commit(t, session, coordination.Delete(second)); len(put) != 0 {
		t.Errorf("Delete returned records %v", put)
	}
	_, err := s.Get(t.Context(), "a")
	wantError(t, "Get of a deleted record", err, coordination.ErrNotFound)
	refused("what is gone", second)
	refused("version 0 of what is gone", coordination.Record{Key: "a"})

	third := create(t, session, "a", "2") // the same again
	refused("what was made again", second)
	if got, err := s.Get(t.Context(), "a"); err != nil || got.Version != third.Version {
		t.Errorf("got version %d, %v, want %d", got.Version, err, third.Version)
	}
	commit(t, session, coordination.Delete(third))
	if got := s.list(""); len(got) != 0 {
		t.Errorf("all was deleted, but there is %v", got)
	}
}

func testCheck(t *testing.T, s *state) {
	session := s.join(host("h1"))
	first := create(t, session, "a", "1")
	second := commit(t, session, coordination.Put(coordination.Record{Key: "a", Value: []byte("2"), Version: first.Version}))[0]
	absent := coordination.Record{Key: "b"}

	if put := commit(t, session, coordination.Check(second), coordination.Check(absent)); len(put) != 0 {
		t.Errorf("Check returned records %v", put)
	}
	for what, r := range map[string]coordination.Record{
		"an older version": first,
		"version 0":        {Key: "a"},
		"one not there":    {Key: "b", Version: second.Version},
	} {
		_, err := session.Commit(t.Context(), coordination.Check(r))
		wantError(t, "check "+what, err, coordination.ErrConflict)
	}
	if got, err := s.Get(t.Context(), "a"); err != nil || got.Version != second.Version || string(got.Value) != "2" {
		t.Errorf("after checks: got %+v, %v, want %+v", got, err, second)
	}
}

func testVersionsGrow(t *testing.T, s *state) {
	session := s.join(host("h1"))
	var last uint64
	for i := range 5 {
		r := create(t, session, "a", fmt.Sprint("made ", i))
		if r.Version <= last {
			t.Errorf("version %d follows %d, which was deleted", r.Version, last)
		}
		last = r.Version
		r = commit(t, session, coordination.Put(coordination.Record{Key: "a", Value: fmt.Append(nil, "put ", i), Version: last}))[0]
		if r.Version <= last {
			t.Errorf("version %d follows %d", r.Version, last)
		}
		last = r.Version
		commit(t, session, coordination.Delete(r))
	}
}

func testAllOfATransaction(t *testing.T, s *state) {
	session := s.join(host("h1"))
	kept, changed, deleted := create(t, session, "kept", "1"), create(t, session, "changed", "1"), create(t, session, "deleted", "1")
	changed.Value = []byte("2")
	put := commit(t, session,
		coordination.Check(kept),
		coordination.Put(coordination.Record{Key: "new", Value: []byte("1")}),
		coordination.Delete(deleted),
		coordination.Check(coordination.Record{Key: "absent"}),
		coordination.Put(changed),
	)
	if len(put) != 2 || put[0].Key != "new" || put[1].Key != "changed" {
		t.Fatalf("Commit returned %v, want the records new and changed", put)
	}
	for _, r := range put {
		if got, err := s.Get(t.Context(), r.Key); err != nil || got.Version != r.Version || string(got.Value) != string(r.Value) {
			t.Errorf("got %+v, %v, want %+v", got, err, r)
		}
	}
	want := map[string]string{"kept": "1", "changed": "2", "new": "1"}
	if got := s.list(""); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func testNothingOfATransaction(t *testing.T, s *state) {
	session := s.join(host("h1"))
	old := create(t, session, "a", "1")
	current := commit(t, session, coordination.Put(coordination.Record{Key: "a", Value: []byte("2"), Version: old.Version}))[0]
	other, third := create(t, session, "b", "1"), create(t, session, "d", "1")
	good := []coordination.Op{
		coordination.Put(coordination.Record{Key: "new", Value: []byte("1")}),
		coordination.Put(coordination.Record{Key: "b", Value: []byte("2"), Version: other.Version}),
		coordination.Delete(third),
	}
	for what, bad := range map[string]coordination.Op{
		"create":        coordination.Put(coordination.Record{Key: "a"}),
		"put":           coordination.Put(old),
		"delete":        coordination.Delete(old),
		"delete absent": coordination.Delete(coordination.Record{Key: "c", Version: current.Version}),
		"check":         coordination.Check(old),
		"check present": coordination.Check(coordination.Record{Key: "c", Version: current.Version}),
		"check absent":  coordination.Check(coordination.Record{Key: "a"}),
	} {
		for i := range len(good) + 1 { // wherever the bad one stands
			ops := append(append(append([]coordination.Op{}, good[:i]...), bad), good[i:]...)
			put, err := session.Commit(t.Context(), ops...)
			wantError(t, fmt.Sprint(what, " at ", i), err, coordination.ErrConflict)
			if len(put) != 0 {
				t.Errorf("%s at %d: got records %v", what, i, put)
			}
		}
	}
	if got, want := s.list(""), map[string]string{"a": "2", "b": "1", "d": "1"}; !maps.Equal(got, want) {
		t.Errorf("after conflicts: got %v, want %v", got, want)
	}
	for _, r := range []coordination.Record{current, other, third} {
		if got, err := s.Get(t.Context(), r.Key); err != nil || got.Version != r.Version {
			t.Errorf("after conflicts: %s has version %d, %v, want %d", r.Key, got.Version, err, r.Version)
		}
	}
}

func testLimits(t *testing.T, s *state) {
	session := s.join(host("h1"))
	var ops []coordination.Op
	for i := range coordination.MaxOps + 1 {
		ops = append(ops, coordination.Put(coordination.Record{Key: fmt.Sprintf("many/%03d", i), Value: []byte("1")}))
	}
	_, err := session.Commit(t.Context(), ops...)
	wantError(t, "one operation too many", err, coordination.ErrTooLarge)
	_, err = session.Commit(t.Context(),
		coordination.Put(coordination.Record{Key: "small", Value: []byte("1")}),
		coordination.Put(coordination.Record{Key: "big", Value: make([]byte, coordination.MaxBytes)}))
	wantError(t, "one byte too many", err, coordination.ErrTooLarge)
	if got := s.list(""); len(got) != 0 {
		t.Fatalf("refused transactions left %v", got)
	}
	// All limits at once, with keys that are long in any encoding.
	var full, undo []coordination.Op
	for i := range coordination.MaxOps {
		key := strings.Repeat("<", coordination.MaxKey-3) + fmt.Sprintf("%03d", i)
		full = append(full, coordination.Put(coordination.Record{Key: key, Value: make([]byte, coordination.MaxBytes/coordination.MaxOps)}))
	}
	for _, r := range commit(t, session, full...) {
		undo = append(undo, coordination.Delete(r))
	}
	commit(t, session, undo...)
	if put := commit(t, session, ops[:coordination.MaxOps]...); len(put) != coordination.MaxOps {
		t.Errorf("got %d records, want %d", len(put), coordination.MaxOps)
	}
	if got := s.list("many/"); len(got) != coordination.MaxOps {
		t.Errorf("got %d records, want %d", len(got), coordination.MaxOps)
	}
}

func testMalformed(t *testing.T, s *state) {
	session := s.join(host("h1"))
	r := coordination.Record{Key: "a", Value: []byte("1")}
	for what, ops := range map[string][]coordination.Op{
		"a key twice":            {coordination.Put(r), coordination.Put(r)},
		"a key put and checked":  {coordination.Put(r), coordination.Check(r)},
		"a key checked and put":  {coordination.Check(r), coordination.Put(r)}, // one after the other, these would do
		"a key checked twice":    {coordination.Check(r), coordination.Check(r)},
		"a key deleted and put":  {coordination.Delete(r), coordination.Put(r)},
		"a key put and deleted":  {coordination.Put(r), coordination.Delete(r)},
		"no key":                 {coordination.Put(r), coordination.Put(coordination.Record{})},
		"a key with a space":     {coordination.Put(r), coordination.Put(coordination.Record{Key: "b c"})},
		"a key with a slash":     {coordination.Put(r), coordination.Put(coordination.Record{Key: "/b"})},
		"a key of two slashes":   {coordination.Put(r), coordination.Put(coordination.Record{Key: "b//c"})},
		"a key that ends in one": {coordination.Put(r), coordination.Put(coordination.Record{Key: "b/"})},
		"a key with dots":        {coordination.Put(r), coordination.Put(coordination.Record{Key: "b/../c"})},
		"a key not in UTF-8":     {coordination.Put(r), coordination.Put(coordination.Record{Key: "b\xff"})},
		"a key too long":         {coordination.Put(r), coordination.Put(coordination.Record{Key: strings.Repeat("b", coordination.MaxKey+1)})},
		"an operation not known": {coordination.Put(r), {Kind: -1, Record: coordination.Record{Key: "b"}}},
	} {
		if put, err := session.Commit(t.Context(), ops...); err == nil {
			t.Errorf("%s: got records %v, want an error", what, put)
		} else if errors.Is(err, coordination.ErrConflict) {
			t.Errorf("%s: got error %v, which invites to try again", what, err)
		}
	}
	if got := s.list(""); len(got) != 0 {
		t.Errorf("refused transactions left %v", got)
	}
}
