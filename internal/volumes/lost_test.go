package volumes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dvol/dvold/coordination"
)

// replaceStore has all hosts go on with another file of records, at once.
func (f *fleet) replaceStore(file string) {
	f.t.Helper()
	old := f.store
	f.store = f.openStore(file)
	for _, n := range f.nodes {
		n.coord = f.store
		n.line.connect(f.store)
	}
	if err := old.Close(); err != nil { // and with it its sessions
		f.t.Error(err)
	}
}

// snapshot copies the records as they are now; the hosts join again.
func (f *fleet) snapshot(file string) {
	f.t.Helper()
	before := make(map[*node]uint64)
	for _, n := range f.nodes {
		before[n] = n.stayNow()
	}
	if err := f.store.Close(); err != nil {
		f.t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(f.dir, "cluster.db"))
	if err == nil {
		err = os.WriteFile(filepath.Join(f.dir, file), text, 0o600)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.store = f.openStore("cluster.db")
	for _, n := range f.nodes {
		n.coord = f.store
		n.line.connect(f.store)
	}
	for _, n := range f.nodes {
		n.eventually("it is back", func() bool { return n.stayNow() > before[n] && n.reach.err() == nil })
	}
}

func (n *node) doubts() bool {
	n.reach.mu.RLock()
	defer n.reach.mu.RUnlock()
	return n.reach.doubt != nil
}

// TestLostRecords: no host tells Docker that a volume does not exist because
// the records are gone, and all that lies in the pools can be brought back.
func TestLostRecordsAreNotTakenForTheTruthAndCanBeBroughtBack(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	adoptable := filepath.Join(f.dir, "pools", "a", "old")
	h1.must(os.MkdirAll(adoptable, 0o755))
	h1.must(h1.Create(t.Context(), "adopted", map[string]string{"adopt": "old"}))
	for _, name := range []string{"held", "known", "trashed", "taken"} {
		h1.must(h1.Create(t.Context(), name, nil))
		h1.write(h1.location(name), "f", name)
	}
	h1.must(h1.Create(t.Context(), "own", map[string]string{"pool": "b"}))
	h1.must(h1.Remove(t.Context(), "trashed", nil))
	target := h1.mount("held", "c1", me(t))
	h1.settled()

	f.replaceStore("fresh.db")
	for range 200 { // from the first moment on
		for _, n := range f.nodes {
			if _, err := n.Get(t.Context(), "known"); errors.Is(err, ErrNotFound) {
				t.Fatalf("%s said that a volume does not exist", n.name)
			}
		}
	}
	for _, n := range f.nodes {
		n.eventually("it doubts the records", n.doubts)
	}
	_, err := h2.Get(t.Context(), "unheard-of")
	wantError(t, "get of what was never seen", err, ErrUnavailable, "records are gone", "dvold cluster accept")
	wantError(t, "create", h1.Create(t.Context(), "new", nil), ErrUnavailable, "records are gone")
	wantError(t, "remove", h1.Remove(t.Context(), "known", nil), ErrUnavailable)
	h1.mount("known", "c1", me(t))
	h1.must(h1.Unmount(t.Context(), "known", "c1"))
	if !h1.mounted(target) {
		t.Error("the mounted volume was unmounted")
	}

	h1.eventually("it has joined", func() bool { return h1.stayNow() > 0 && h2.stayNow() > 0 })
	f.takeName(t, "taken")
	seen, err := h1.Scan(t.Context(), "a", false, "")
	h1.must(err)
	wantStates(t, seen, map[string]string{"adopted": FoundMissing, "held": FoundMissing, "known": FoundMissing, "trashed": FoundMissing, "taken": FoundMissing})
	brought, err := h1.Scan(t.Context(), "a", true, "")
	h1.must(err)
	wantStates(t, brought, map[string]string{"adopted": FoundImported, "held": FoundImported, "known": FoundImported, "trashed": FoundTrashed, "taken": FoundTrashed})
	brought, err = h1.Scan(t.Context(), "b", true, "")
	h1.must(err)
	wantStates(t, brought, map[string]string{"own": FoundImported})
	h2.must(h2.Accept(t.Context()))
	for _, n := range f.nodes {
		n.eventually("it believes the records", func() bool { return n.reach.err() == nil })
		wantError(t, "accept again", n.Accept(t.Context()), ErrInvalid)
	}
	h1.settled()
	wantError(t, "remove elsewhere", h2.Remove(t.Context(), "held", nil), ErrInUse, `"h1"`)
	wantError(t, "adopt it once more", h2.Create(t.Context(), "again", map[string]string{"adopt": "old"}), ErrInUse)
	if _, err := h2.Restore(t.Context(), "trashed", ""); err != nil {
		t.Error(err)
	}
	if _, err := h2.Restore(t.Context(), "taken", "taken-back"); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"known": "known", "trashed": "trashed", "taken-back": "taken"} {
		if got := h2.read(h2.mount(name, "c1", me(t)), "f"); got != want {
			t.Errorf("%s holds %q", name, got)
		}
		h2.must(h2.Unmount(t.Context(), name, "c1"))
	}
	h1.must(h1.Unmount(t.Context(), "held", "c1"))
	h1.settled()
}

// What is adopted may lie in a storage that is gone for good: the others come back all the same.
func TestScanGoesOnWhereAdoptedDataCannotBeReached(t *testing.T) {
	f := newFleet(t, "h1")
	h1 := f.node("h1")
	adopted := filepath.Join(f.dir, "pools", "a", "old")
	h1.must(os.MkdirAll(adopted, 0o755))
	h1.must(h1.Create(t.Context(), "adopted", map[string]string{"adopt": "old"}))
	h1.must(h1.Create(t.Context(), "data", nil))
	f.replaceStore("fresh.db")
	h1.eventually("it has joined", func() bool { return h1.doubts() && h1.stayNow() > 0 })
	h1.must(os.Rename(adopted, adopted+"er"))
	h1.must(os.Symlink(adopted+"er", adopted)) // which is not followed
	brought, err := h1.Scan(t.Context(), "a", true, "")
	h1.must(err)
	wantStates(t, brought, map[string]string{"adopted": FoundMissing, "data": FoundImported})
	if len(brought) != 2 || !strings.Contains(brought[0].Problem, "symbolic link") {
		t.Errorf("found %+v, want the reason", brought)
	}
	h1.must(errors.Join(os.Remove(adopted), os.Rename(adopted+"er", adopted)))
	brought, err = h1.Scan(t.Context(), "a", true, "")
	h1.must(err)
	wantStates(t, brought, map[string]string{"adopted": FoundImported, "data": FoundKnown})
	h1.must(h1.Accept(t.Context()))
}

// takeName makes a record of that name, as if the name had been used since.
func (f *fleet) takeName(t *testing.T, name string) {
	t.Helper()
	r := record{Schema: recordSchema, ID: newID(name), Name: name, Pool: "a", Handle: "x", Access: AccessShared, State: stateReady}
	stored, err := r.fresh(volumeKey(name))
	if err != nil {
		t.Fatal(err)
	}
	session, err := f.store.Join(t.Context(), coordination.Host{Name: "other", ID: "other"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Commit(t.Context(), coordination.Put(stored)); err != nil {
		t.Fatal(err)
	}
}

// TestOldRecords: an old snapshot was restored.
func TestRecordsThatWentBackInTimeAreNotTakenForTheTruthUntilAccepted(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "before", nil))
	f.snapshot("old.db")
	version, err := h1.tick(t.Context(), 0)
	h1.must(err)
	_, err = h1.tick(t.Context(), version)
	h1.must(err)
	for _, n := range f.nodes {
		n.eventually("it has seen the clock", func() bool { return n.Cluster().Tick == 2 })
	}
	h1.must(h1.Create(t.Context(), "after", nil))
	h1.mount("after", "c1", me(t))
	f.replaceStore("old.db")
	for range 200 {
		if _, err := h1.Get(t.Context(), "after"); errors.Is(err, ErrNotFound) {
			t.Fatal("it said that a volume does not exist")
		}
	}
	for _, n := range f.nodes {
		n.eventually("it doubts the records", n.doubts)
	}
	wantError(t, "create", h2.Create(t.Context(), "new", nil), ErrUnavailable, "back in time")
	h1.eventually("it has joined", func() bool { return h1.stayNow() > 0 })
	findings, err := h1.Scan(t.Context(), "a", true, "")
	h1.must(err)
	wantStates(t, findings, map[string]string{"before": FoundKnown, "after": FoundImported})
	h1.must(h1.Accept(t.Context()))
	for _, n := range f.nodes {
		n.eventually("it believes the records", func() bool { return n.reach.err() == nil })
	}
	h1.settled()
	if got := h1.heldBy("h1"); !slices.Equal(got, []string{"after"}) {
		t.Errorf("the records say that it holds %v", got)
	}
	h1.must(h1.Unmount(t.Context(), "after", "c1"))
	h1.settled()
}

func TestForeignClusterIsRefused(t *testing.T) {
	f := newFleet(t, "h1")
	h1 := f.node("h1")
	h1.must(h1.Create(t.Context(), "data", nil))
	h1.stop()
	stranger := f.add("stranger")
	own := f.store
	f.store = f.openStore("foreign.db")
	stranger.line.connect(f.store)
	stranger.start()
	h1.line.connect(f.store)
	err := h1.open()
	if !errors.Is(err, errForeign) || !strings.Contains(fmt.Sprint(err), h1.dir+"/cluster.json") {
		t.Errorf("start in a foreign cluster: %v", err)
	}
	findings, err := stranger.Scan(t.Context(), "a", true, "")
	stranger.must(err)
	wantStates(t, findings, map[string]string{"data": FoundForeign})
	if err := own.Close(); err != nil {
		t.Error(err)
	}
}

// TestLateWatch: a host whose watch is late must not turn the clock back.
func TestClockNeverGoesBackByAHostThatSawLess(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.settled()
	var version uint64
	var err error
	for range 6 {
		version, err = h2.tick(t.Context(), version)
		h2.must(err)
	}
	want := h2.Cluster().Tick
	version, err = h1.tick(t.Context(), 0)
	h1.must(err)
	h1.mu.Lock()
	h1.cluster.Tick = 1 // as if its watch had told it nothing since
	h1.mu.Unlock()
	_, err = h1.tick(t.Context(), version)
	h1.must(err)
	if got := h1.Cluster().Tick; got != want+1 {
		t.Errorf("the clock went from %d to %d", want, got)
	}
	h2.eventually("it has seen that", func() bool { return h2.Cluster().Tick == want+1 })
	if err := h2.reach.err(); err != nil {
		t.Error(err)
	}
}

func TestNewerWritersStopWritesAndNotReads(t *testing.T) {
	f := newFleet(t, "h1")
	h1 := f.node("h1")
	h1.must(h1.Create(t.Context(), "data", nil))
	version, err := h1.tick(t.Context(), 0)
	h1.must(err)
	put := func(text string) {
		stored, err := f.store.Get(t.Context(), clusterKey)
		h1.must(err)
		value := strings.Replace(string(stored.Value), `"min_writer":1`, text, 1)
		session, err := h1.session()
		h1.must(err)
		written, err := session.Commit(t.Context(), coordination.Put(coordination.Record{Key: clusterKey, Value: []byte(value), Version: stored.Version}))
		h1.must(err)
		version = written[0].Version
	}
	put(`"min_writer":1,"later":{"a":1}`)
	_, err = h1.tick(t.Context(), version)
	h1.must(err)
	stored, err := f.store.Get(t.Context(), clusterKey)
	if err != nil || !strings.Contains(string(stored.Value), `"later":{"a":1}`) || stored.Version == version {
		t.Errorf("after a tick the record is %s, %v", stored.Value, err)
	}
	put(`"min_writer":2`)
	h1.eventually("it knows of newer writers", func() bool { return h1.reach.writable() != nil })
	wantError(t, "create", h1.Create(t.Context(), "new", nil), ErrUnavailable, "upgrade this host")
	wantError(t, "remove", h1.Remove(t.Context(), "data", nil), ErrUnavailable, "upgrade this host")
	if _, err := h1.Get(t.Context(), "data"); err != nil {
		t.Error(err)
	}
	if names, err := h1.Names(t.Context()); err != nil || len(names) != 1 {
		t.Errorf("names: %v, %v", names, err)
	}
}
