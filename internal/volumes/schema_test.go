package volumes

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/internal/host"
)

// The files in testdata/schema1 are what the first dvold wrote, and every
// later one must read them. What later schemas look like nobody knows; those
// in testdata/schema2 are made up.

// fixture returns what is in a file of testdata.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSpace(text)
}

// at is a time of the day on which the first dvold wrote the fixtures.
func at(t *testing.T, clock string) *time.Time {
	t.Helper()
	then, err := time.Parse(time.RFC3339Nano, "2026-11-"+clock+"Z")
	if err != nil {
		t.Fatal(err)
	}
	return &then
}

// TestSchema1Records: volumes of schema 1 are read as they were meant, and
// written as they were, or the schema must have another number.
func TestSchema1Records(t *testing.T) {
	for name, want := range map[string]record{
		"volume": {
			ID: "data.37bab4be5ae8", Name: "data", Pool: "a", Handle: "volumes/data.37bab4be5ae8", Access: AccessShared, State: stateReady, Op: "91b501385c31",
			Options: map[string]string{"mode": "0750", "pool": "a", "uid": "7"}, CreatedAt: *at(t, "23T03:24:43.340223189"), CreatedBy: "h1",
		},
		"adopted": {
			ID: "shop.06b2bd537e53", Name: "shop", Pool: "a", Handle: "sites/shop", Adopted: true, Access: AccessShared, Retain: true, State: stateReady, Op: "0b5cd7c167d6",
			Options: map[string]string{"adopt": "sites/shop", "retain": "true"}, CreatedAt: *at(t, "23T03:24:43.533954581"), CreatedBy: "h1",
		},
		"trash": {
			ID: "old.67fec0e96ecd", Name: "old", Pool: "a", Handle: "volumes/old.67fec0e96ecd", Access: AccessShared, State: stateTrashed, Op: "2400c9eef73a",
			Options: map[string]string{"gid": "8"}, CreatedAt: *at(t, "23T03:24:43.360148431"), CreatedBy: "h1",
			RemovedAt: at(t, "23T03:24:43.532501764"), RemovedBy: "h1", PurgeAt: at(t, "24T03:23:17.787571768"),
		},
		"full": {
			ID: "full.0123456789ab", Name: "full", Pool: "b", Handle: "volumes/full.0123456789ab", Adopted: true, Access: AccessShared, Size: 20 << 30, Retain: true,
			Options: map[string]string{"size": "20G"}, State: statePurging, Op: "0123456789ab", CreatedAt: *at(t, "23T03:24:43"), CreatedBy: "h2",
			RemovedAt: at(t, "23T03:24:44"), RemovedBy: "h3", PurgeAt: at(t, "23T03:24:45"),
		},
	} {
		text := fixture(t, "schema1/"+name+".json")
		want.Schema, want.version, want.stored = 1, 7, text
		got, err := decode(coordination.Record{Key: name, Value: text, Version: 7})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v, %v\nwant %+v", name, got, err, want)
		}
		stored, err := got.at(name)
		if err != nil {
			t.Fatal(err)
		}
		op := regexp.MustCompile(`"op":"[0-9a-f]{12}"`)
		if written := op.ReplaceAll(stored.Value, []byte(`"op":"`+want.Op+`"`)); !bytes.Equal(written, text) {
			t.Errorf("%s:\nwritten %s\nas      %s", name, text, written)
		}
	}
}

// TestSchema1Claim is TestSchema1Records for claims and what guards them.
func TestSchema1Claim(t *testing.T) {
	text := fixture(t, "schema1/claim.json")
	m := &Manager{coord: claimed{value: text}}
	if _, err := m.claim(t.Context(), record{Pool: "a", Handle: "sites"}); err == nil || !strings.Contains(err.Error(), `"shop" has adopted "sites/shop"`) {
		t.Errorf("claim around the claimed: got error %v", err)
	}
	m.coord = claimed{value: []byte(`{"schema":1,"handle":"elsewhere"}`)}
	ops, err := m.claim(t.Context(), record{Name: "shop", Pool: "a", Handle: "sites/shop"})
	if err != nil {
		t.Fatal(err)
	}
	guard, claim := ops[0].Record, ops[1].Record
	if claim.Key != "adopted/a/07761a4a95ccc09020c2a4f9f81ebbe2" || !bytes.Equal(claim.Value, text) {
		t.Errorf("written %s at %s, want %s", claim.Value, claim.Key, text)
	}
	for _, value := range [][]byte{guard.Value, fixture(t, "schema1/guard.txt")} {
		if guard.Key != "adoptions/a" || !regexp.MustCompile(`^[0-9a-f]{12}$`).Match(value) {
			t.Errorf("written %s at %s, want 12 hexadecimal digits", value, guard.Key)
		}
	}
}

// TestSchema1Journal is TestSchema1Records for the journal, and reads one that
// the first dvold left behind.
func TestSchema1Journal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mounts.db")
	copyFile(t, "testdata/schema1/mounts.db", path)
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	if boot, err := j.boot(); err != nil || boot != "315a8380-cee5-478c-82d2-5396072786c8" {
		t.Errorf("boot ID is %q, %v", boot, err)
	}
	want := entry{
		Schema: 1, Name: "data", ID: "data.37bab4be5ae8", Pool: "a", Handle: "volumes/data.37bab4be5ae8",
		Uses: map[string]use{"b9d5c2e0": {Count: 1, Engine: host.Process{PID: 4711, Start: 815}, Since: *at(t, "23T03:24:43.655705261")}},
	}
	text := fixture(t, "schema1/entry.json")
	for range 2 { // as it was, then rewritten
		all, err := j.entries()
		if err != nil || len(all) != 1 || !reflect.DeepEqual(all[0], want) {
			t.Fatalf("got  %+v, %v\nwant %+v", all, err, want)
		}
		if got := raw(t, j, mountsBucket, "data"); !bytes.Equal(got, text) {
			t.Errorf("got  %s\nwant %s", got, text)
		}
		if err := j.put(all[0]); err != nil {
			t.Fatal(err)
		}
	}
	if got := raw(t, j, metaBucket, "schema"); string(got) != "1" {
		t.Errorf("the journal's schema is %q", got)
	}
}

func TestSchema1Identity(t *testing.T) {
	const written = `{"schema":1,"host_id":"91624027b0fbab9c0124d2f0"}`
	id, err := loadIdentity("testdata/schema1/host.json")
	if err != nil || id != (identity{Schema: 1, HostID: "91624027b0fbab9c0124d2f0"}) {
		t.Errorf("got %+v, %v", id, err)
	}
	if text, err := json.Marshal(id); err != nil || string(text) != written {
		t.Errorf("written %s, want %s", text, written)
	}
}

// TestSchema1Host: a daemon takes over all that the first one left behind.
func TestSchema1Host(t *testing.T) {
	w := newWorld(t)
	for _, dir := range []string{"run", "pools/a/volumes/old.67fec0e96ecd", "pools/a/sites/shop"} {
		w.must(os.MkdirAll(filepath.Join(w.dir, dir), 0o755))
	}
	copyFile(t, "testdata/schema1/mounts.db", filepath.Join(w.dir, "run", "mounts.db"))
	copyFile(t, "testdata/schema1/host.json", filepath.Join(w.dir, "host.json"))
	copyFile(t, "../../coordination/embedded/testdata/schema1/cluster.db", filepath.Join(w.dir, "cluster.db"))
	w.start()
	defer w.stop()
	all, err := w.List(t.Context())
	w.must(err)
	if len(all) != 2 || all[0].ID != "data.37bab4be5ae8" || all[0].Options["uid"] != "7" || all[1].Handle != "sites/shop" || !all[1].Adopted {
		t.Errorf("volumes are %+v", all)
	}
	hosts, err := w.coord.Hosts(t.Context())
	if err != nil || len(hosts) != 1 || hosts[0].ID != "91624027b0fbab9c0124d2f0" || hosts[0].Incarnation != 2 {
		t.Errorf("hosts are %+v, %v", hosts, err)
	}
	if v, err := w.Restore(t.Context(), "old", ""); err != nil || v.ID != "old.67fec0e96ecd" || v.Options["gid"] != "8" {
		t.Errorf("restored %+v, %v", v, err)
	}
	w.must(w.Remove(t.Context(), "shop", nil))
	w.must(w.Create(t.Context(), "again", map[string]string{"adopt": "sites"})) // over the old guard; the claim is gone
}

// later puts records of schema 2 under their keys, with a record of schema 1
// for each thing that the sweeper does, and returns the keys of both.
func later(t *testing.T, w *world) (newer, present []string) {
	t.Helper()
	past := time.Now().Add(-time.Hour).UTC()
	due := record{ID: "due.0123456789ab", Name: "due", Pool: "a", Handle: "volumes/due.0123456789ab", State: stateTrashed, RemovedAt: new(past.AddDate(-10, 0, 0)), PurgeAt: &past}
	interrupted := intent{
		Schema: 1, Kind: creating, Name: "half", By: caller{"h1", 1},
		Record: &record{ID: "half.0123456789ab", Name: "half", Pool: "a", Handle: "volumes/half.0123456789ab"},
	}
	var ops []coordination.Op
	for key, v := range map[string]any{trashKey(due.ID): due, intentKey("half"): interrupted} {
		if r, ok := v.(record); ok {
			r.Schema = 1
			v = r
		}
		ops = append(ops, coordination.Put(coordination.Record{Key: key, Value: toJSON(t, v)}))
		present = append(present, key)
	}
	for key, file := range map[string]string{
		volumeKey("later"): "volume", intentKey("begun"): "intent", trashKey("gone.0123456789ab"): "trash", claimKey("a", "sites/later"): "claim",
	} {
		ops = append(ops, coordination.Put(coordination.Record{Key: key, Value: fixture(t, "schema2/"+file+".json")}))
		newer = append(newer, key)
	}
	_, err := w.commit(t.Context(), ops...)
	w.must(err)
	return newer, present
}

// values returns what lies under keys; a key without a record is left out.
func (w *world) values(keys []string) (found []coordination.Record) {
	w.t.Helper()
	all, err := w.coord.List(w.t.Context(), "")
	w.must(err)
	for _, r := range all {
		if slices.Contains(keys, r.Key) {
			found = append(found, r)
		}
	}
	return found
}

// TestSchema2Records: what a newer dvold wrote is shown to nobody, and stays
// as it is whatever this one is asked for, or does by itself.
func TestSchema2Records(t *testing.T) {
	w := newWorld(t).start()
	defer func() { w.stop() }()
	newer, present := later(t, w)
	for _, handle := range []string{"sites/later/data", "volumes/later.0123456789ab", "volumes/begun.0123456789ab", "volumes/gone.0123456789ab", "volumes/due.0123456789ab"} {
		w.must(os.MkdirAll(filepath.Join(w.dir, "pools/a", handle), 0o755))
	}
	w.must(w.Create(t.Context(), "data", nil))
	w.must(w.Remove(t.Context(), "data", nil))
	before := w.values(newer)
	if len(before) != 4 {
		t.Fatalf("put %v", before)
	}
	ctx := t.Context()
	for _, name := range []string{"later", "begun"} {
		_, getErr := w.Get(ctx, name)
		_, mountErr := w.Mount(ctx, name, "c1", me(t))
		for what, err := range map[string]error{"get": getErr, "mount": mountErr, "remove": w.Remove(ctx, name, nil)} {
			if name == "later" {
				wantNewer(t, what+" "+name, err)
			}
		}
		wantNewer(t, "create "+name, w.Create(ctx, name, nil))
		w.must(w.Unmount(ctx, name, "c1"))
		if _, err := w.Restore(ctx, "data", name); err == nil {
			t.Errorf("%s was restored over", name)
		}
	}
	for _, which := range []string{"gone", "gone.0123456789ab"} {
		_, restoreErr := w.Restore(ctx, which, "")
		_, purgeErr := w.Purge(ctx, which)
		if restoreErr == nil || purgeErr == nil {
			t.Errorf("%s: restore %v, purge %v; want errors", which, restoreErr, purgeErr)
		}
	}
	if err := w.Create(ctx, "taken", map[string]string{"adopt": "sites/later/data"}); err == nil {
		t.Error("adopted what a newer dvold's volume has adopted")
	}
	all, err := w.List(ctx)
	trash, trashErr := w.Trash(ctx)
	if err != nil || trashErr != nil || len(all) != 0 || slices.ContainsFunc(trash, func(r Trashed) bool { return r.Name == "gone" }) {
		t.Errorf("listed %+v, %v, in the trash %+v, %v", all, err, trash, trashErr)
	}
	w.stop()
	w.start()
	w.eventually("swept", func() bool { return len(w.values(present)) == 0 })
	if after := w.values(newer); !reflect.DeepEqual(after, before) {
		t.Errorf("was %+v\nis  %+v", before, after)
	}
	for _, r := range []string{"later", "begun", "gone"} {
		if w.gone(filepath.Join(w.dir, "pools/a/volumes", r+".0123456789ab")) {
			t.Errorf("the data of %s was deleted", r)
		}
	}
}

func wantNewer(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "newer dvold") {
		t.Errorf("%s: got error %v, want one that names a newer dvold", what, err)
	}
}

// TestSchema2Host: a daemon does not start on a state of a newer one, and
// leaves it as it is.
func TestSchema2Host(t *testing.T) {
	dir := t.TempDir()
	identity := filepath.Join(dir, "host.json")
	copyFile(t, "testdata/schema2/host.json", identity)
	_, err := loadIdentity(identity)
	wantNewer(t, "identity", err)
	wantSame(t, identity, fixture(t, "schema2/host.json"))

	path := filepath.Join(dir, "mounts.db")
	copyFile(t, "testdata/schema1/mounts.db", path)
	text := fixture(t, "schema2/entry.json")
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	putRaw(t, j, "later", text)
	m := &Manager{cfg: Config{RunDir: dir}, journal: j, mounts: make(map[string]entry), log: slog.New(slog.DiscardHandler)}
	wantNewer(t, "entry", m.recover("boot"))
	if got := raw(t, j, mountsBucket, "later"); !bytes.Equal(got, text) {
		t.Errorf("the entry is now %s", got)
	}
	setRaw(t, j, metaBucket, "schema", []byte("2"))
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if j, err = openJournal(path); err == nil {
		j.close()
	}
	wantNewer(t, "journal", err)
	wantSame(t, path, before)
}

func wantSame(t *testing.T, path string, before []byte) {
	t.Helper()
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(bytes.TrimSpace(after), bytes.TrimSpace(before)) {
		t.Errorf("%s was changed, %v", path, err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
