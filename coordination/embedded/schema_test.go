package embedded

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/dvol/dvold/coordination"
)

// testdata/schema1/cluster.db was written by the first dvold, and every later
// one must read it.

// oldest returns the path of a copy of that file.
func oldest(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cluster.db")
	content, err := os.ReadFile("testdata/schema1/cluster.db")
	if err == nil {
		err = os.WriteFile(path, content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// openFor opens a new file for as long as the test lasts.
func openFor(t testing.TB) *Store {
	t.Helper()
	return openPath(t, filepath.Join(t.TempDir(), "cluster.db"))
}

func openPath(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(context.Background(), Config{Path: path}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestSchema1 reads every record and every host, and writes them as they were,
// or the schema must have another number.
func TestSchema1(t *testing.T) {
	s := openPath(t, oldest(t))
	records, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	versions := map[string]uint64{
		"adopted/a/07761a4a95ccc09020c2a4f9f81ebbe2": 7, "adoptions/a": 7, "trash/old.67fec0e96ecd": 6, "volumes/3a/data": 3, "volumes/8d/shop": 8,
	}
	for _, r := range records {
		if versions[r.Key] != r.Version {
			t.Errorf("%s has version %d, want %d", r.Key, r.Version, versions[r.Key])
		}
		if got := raw(t, s, recordsBucket, r.Key); !bytes.Equal(got, encode(r.Version, r.Value)) {
			t.Errorf("%s is stored as %q", r.Key, got)
		}
		if r.Key == "adopted/a/07761a4a95ccc09020c2a4f9f81ebbe2" && string(r.Value) != `{"schema":1,"handle":"sites/shop","volume":"shop"}` {
			t.Errorf("%s is %s", r.Key, r.Value)
		}
	}
	if len(records) != len(versions) {
		t.Errorf("got %d records, want %d", len(records), len(versions))
	}
	text, err := os.ReadFile("testdata/schema1/host.json")
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.TrimSpace(text)
	since, err := time.Parse(time.RFC3339Nano, "2026-11-23T03:24:43.338296766Z")
	if err != nil {
		t.Fatal(err)
	}
	want := coordination.Host{Name: "h1", ID: "91624027b0fbab9c0124d2f0", Boot: "315a8380-cee5-478c-82d2-5396072786c8", Incarnation: 1, Since: since, Version: 1}
	hosts, err := s.Hosts(t.Context())
	if err != nil || len(hosts) != 1 || hosts[0] != want {
		t.Errorf("hosts are %+v, %v, want %+v", hosts, err, want)
	}
	if got := raw(t, s, hostsBucket, "h1"); !bytes.Equal(got, text) {
		t.Errorf("the host is stored as %s, want %s", got, text)
	}
	written, err := json.Marshal(hostEntry{ID: want.ID, Boot: want.Boot, Incarnation: 1, Since: since, Version: 1})
	if err != nil || !bytes.Equal(written, text) {
		t.Errorf("the host is written as %s, want %s", written, text)
	}
}

// TestSchema1GoesOn: incarnations and versions go on where the first dvold
// left off.
func TestSchema1GoesOn(t *testing.T) {
	s := openPath(t, oldest(t))
	session, err := s.Join(t.Context(), coordination.Host{Name: "h1", ID: "91624027b0fbab9c0124d2f0", Boot: "another"})
	if err != nil {
		t.Fatal(err)
	}
	put, err := session.Commit(t.Context(), coordination.Put(coordination.Record{Key: "volumes/3a/data", Value: []byte("new"), Version: 3}))
	if err != nil || put[0].Version != 10 || session.Incarnation() != 2 {
		t.Errorf("got %+v, %v in incarnation %d, want version 10 in incarnation 2", put, err, session.Incarnation())
	}
	if _, err := session.Commit(t.Context(), coordination.Delete(coordination.Record{Key: "adoptions/a", Version: 6})); !errors.Is(err, coordination.ErrConflict) {
		t.Errorf("delete at an older version: got error %v, want %v", err, coordination.ErrConflict)
	}
}

// TestSchema2: a file of a newer dvold is refused and left as it is, hosts and
// records in it whatever they are.
func TestSchema2(t *testing.T) {
	path := oldest(t)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		return errors.Join(
			tx.Bucket(metaBucket).Put(schemaKey, []byte("2")),
			tx.Bucket(hostsBucket).Put([]byte("h2"), []byte("no JSON")),
			tx.Bucket(recordsBucket).Put([]byte("later"), []byte("short")),
		)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := Open(t.Context(), Config{Path: path}, slog.New(slog.DiscardHandler)); err == nil {
		t.Errorf("opened: %v", s.Close())
	} else if !strings.Contains(err.Error(), "newer dvold") {
		t.Errorf("got error %v, want one that names a newer dvold", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the file was changed, %v", err)
	}
}

// raw returns what the file has under a key.
func raw(t *testing.T, s *Store, bucket []byte, key string) (value []byte) {
	t.Helper()
	err := s.db.View(func(tx *bbolt.Tx) error {
		value = bytes.Clone(tx.Bucket(bucket).Get([]byte(key)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return value
}
