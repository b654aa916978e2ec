package volumes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"go.etcd.io/bbolt"

	"github.com/dvol/dvold/coordination"
)

// newer is a stored value as a later dvold may write it, or nil if value is no
// JSON object. Names in JSON are read without regard to case.
func newer(t *testing.T, value []byte) []byte {
	t.Helper()
	var fields map[string]json.RawMessage
	if json.Unmarshal(value, &fields) != nil || fields == nil {
		return nil
	}
	for name := range fields {
		if strings.EqualFold(name, "schema") {
			delete(fields, name)
		}
	}
	fields["schema"] = json.RawMessage("2")
	return toJSON(t, fields)
}

func toJSON(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// checkLine fails the test unless err is one line that is safe to print. The
// time package quotes DEL as it is.
func checkLine(t *testing.T, err error) {
	t.Helper()
	if strings.ContainsFunc(strings.ReplaceAll(err.Error(), "\x7f", ""), unicode.IsControl) {
		t.Errorf("error is not one clean line: %q", err)
	}
}

// FuzzRecord: whatever lies under a volume's key, what decode accepts can be
// shown and is the same when it is written again; a newer schema is refused.
func FuzzRecord(f *testing.F) {
	for _, name := range []string{"volume", "trash"} {
		f.Add(fixture(f, "schema1/"+name+".json"))
		f.Add(fixture(f, "schema2/"+name+".json"))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := decode(coordination.Record{Key: "volumes/3a/data", Value: value, Version: 7})
		if err != nil {
			checkLine(t, err)
			return
		}
		if r.Schema != 1 || r.Name == "" || r.ID == "" || r.version != 7 {
			t.Errorf("accepted %+v", r)
		}
		if v := new(Manager).view(r); v.Name != r.Name || v.ID != r.ID || v.Mounted {
			t.Errorf("%+v is seen as %+v", r, v)
		}
		if s := r.trashed(); s.ID != r.ID || s.Purging && !r.due(time.Now()) {
			t.Errorf("%+v is in the trash as %+v", r, s)
		}
		stored, err := r.at("volumes/3a/data")
		if err != nil {
			t.Fatal(err)
		}
		again, err := decode(stored)
		if again.Op == r.Op {
			t.Errorf("two writes have the same op %q", r.Op)
		}
		again.Op = r.Op
		if err != nil || again.version != r.version || !bytes.Equal(toJSON(t, again), toJSON(t, r)) {
			t.Errorf("accepted %+v, written again it is %+v, %v", r, again, err)
		}
		if _, err := decode(coordination.Record{Value: newer(t, value)}); !errors.Is(err, ErrUnavailable) {
			t.Errorf("of a newer schema: got error %v, want %v", err, ErrUnavailable)
		}
	})
}

// FuzzEntry: whatever lies in the journal, an entry that is read is the same
// when it is written again; a newer schema is refused.
func FuzzEntry(f *testing.F) {
	f.Add(fixture(f, "schema1/entry.json"))
	f.Add(fixture(f, "schema2/entry.json"))
	j, err := openJournal(filepath.Join(f.TempDir(), "mounts.db"))
	if err != nil {
		f.Fatal(err)
	}
	j.db.NoSync = true // it need not survive a power cut
	f.Cleanup(func() {
		if err := j.close(); err != nil {
			f.Error(err)
		}
	})
	f.Fuzz(func(t *testing.T, value []byte) {
		defer clearJournal(t, j)
		putRaw(t, j, "data", value)
		all, err := j.entries()
		if err != nil {
			checkLine(t, err)
			return
		}
		if len(all) != 1 || all[0].Schema > 1 || all[0].mounted {
			t.Fatalf("accepted %+v", all)
		}
		if value := newer(t, value); value != nil {
			putRaw(t, j, "data", value)
			if _, err := j.entries(); err == nil || !strings.Contains(err.Error(), "newer dvold") {
				t.Errorf("of a newer schema: got error %v", err)
			}
		}
		clearJournal(t, j)
		if err := j.put(all[0]); err != nil {
			if n := len(all[0].Name); n > 0 && n <= maxName {
				t.Errorf("put %+v: %v", all[0], err)
			}
			return // no key, as no volume's name
		}
		again, err := j.entries()
		all[0].Schema = journalSchema
		if err != nil || !bytes.Equal(toJSON(t, all), toJSON(t, again)) {
			t.Errorf("accepted %+v, written again it is %+v, %v", all, again, err)
		}
	})
}

func putRaw(t *testing.T, j *journal, name string, value []byte) {
	t.Helper()
	setRaw(t, j, mountsBucket, name, value)
}

func setRaw(t *testing.T, j *journal, bucket []byte, key string, value []byte) {
	t.Helper()
	if err := j.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put([]byte(key), value) }); err != nil {
		t.Fatal(err)
	}
}

// raw returns what the journal has stored under a key.
func raw(t *testing.T, j *journal, bucket []byte, key string) (value []byte) {
	t.Helper()
	err := j.db.View(func(tx *bbolt.Tx) error {
		value = bytes.Clone(tx.Bucket(bucket).Get([]byte(key)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func clearJournal(t *testing.T, j *journal) {
	t.Helper()
	err := j.db.Update(func(tx *bbolt.Tx) error {
		if err := tx.DeleteBucket(mountsBucket); err != nil {
			return err
		}
		_, err := tx.CreateBucket(mountsBucket)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// claimed is a coordinator with one claim in it.
type claimed struct {
	coordination.Coordinator
	value []byte
}

func (claimed) Get(context.Context, string) (coordination.Record, error) {
	return coordination.Record{}, coordination.ErrNotFound
}

func (c claimed) List(context.Context, string) ([]coordination.Record, error) {
	return []coordination.Record{{Key: "adopted/a/0123", Value: c.value, Version: 1}}, nil
}

// FuzzClaim: whatever lies under a claim's key, no directory is claimed that
// is the claimed one, within it or around it; and a claim that is written can
// be read.
func FuzzClaim(f *testing.F) {
	f.Add(fixture(f, "schema1/claim.json"), "sites/shop/deep")
	f.Add(fixture(f, "schema2/claim.json"), "sites")
	f.Fuzz(func(t *testing.T, value []byte, handle string) {
		r := record{Name: "data", Pool: "a", Handle: handle, Adopted: true}
		ops, err := (&Manager{coord: claimed{value: value}}).claim(t.Context(), r)
		var c claim
		damaged := json.Unmarshal(value, &c) != nil || c.Schema != recordSchema
		switch {
		case err == nil && damaged:
			t.Error("claimed in spite of a claim that can't be read")
		case err == nil && related(c.Handle, handle):
			t.Errorf("%q was claimed, and so was %q", c.Handle, handle)
		case err != nil && !damaged && !errors.Is(err, ErrInUse):
			t.Errorf("got error %v, want %v", err, ErrInUse)
		case err != nil && !damaged && !related(c.Handle, handle):
			t.Errorf("%q was refused for %q", handle, c.Handle)
		}
		if err != nil {
			return
		}
		if len(ops) != 2 || ops[1].Record.Key != claimKey("a", handle) {
			t.Fatalf("got %+v", ops)
		}
		if !json.Valid(ops[1].Record.Value) {
			t.Errorf("wrote %q", ops[1].Record.Value)
		}
		if strings.ToValidUTF8(handle, "\uFFFD") != handle {
			return // JSON can't hold it
		}
		_, err = (&Manager{coord: claimed{value: ops[1].Record.Value}}).claim(t.Context(), r)
		if !errors.Is(err, ErrInUse) {
			t.Errorf("claimed twice: got error %v, want %v", err, ErrInUse)
		}
	})
}

// related says by another way whether two directories are one, or one lies
// within the other.
func related(a, b string) bool {
	as, bs := strings.Split(a, "/"), strings.Split(b, "/")
	n := min(len(as), len(bs))
	return slices.Equal(as[:n], bs[:n])
}
