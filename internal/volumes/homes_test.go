package volumes

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestVolumeOfAHostsOwnPoolIsSeenEverywhereAndMountedThereAlone(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "data", map[string]string{"pool": "b"}))
	v, err := h2.Get(t.Context(), "data")
	if err != nil || v.Home != "h1" || v.Type != "" {
		t.Errorf("get elsewhere: %+v, %v", v, err)
	}
	if all, err := h2.List(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("list elsewhere: %v, %v", all, err)
	}
	_, err = h2.Mount(t.Context(), "data", "c1", me(t))
	wantError(t, "mount elsewhere", err, ErrUnavailable, `pool "b"`, `host "h1"`)
	h2.must(h2.Create(t.Context(), "data", map[string]string{"pool": "b"})) // exists
	if got := h2.data(); len(got) > 0 {
		t.Errorf("the other host's disk holds %v", got)
	}
	if got := h2.keys("holders/"); len(got) > 0 {
		t.Errorf("after the refusal the records have %v", got)
	}
	h1.mount("data", "c1", me(t))
	wantError(t, "remove elsewhere", h2.Remove(t.Context(), "data", nil), ErrInUse, `"h1"`)
	h1.must(h1.Unmount(t.Context(), "data", "c1"))
	h2.must(h2.Remove(t.Context(), "data", nil))
	if got := h1.data(); len(got) != 1 {
		t.Errorf("the home's disk holds %v after the removal", got)
	}
	_, err = h2.Purge(t.Context(), "data")
	wantError(t, "purge elsewhere", err, ErrUnavailable, `"h1"`)
	if _, err := h1.Purge(t.Context(), "data"); err != nil || len(h1.data()) != 0 {
		t.Errorf("purge at home: %v, its disk holds %v", err, h1.data())
	}
}

// TestLostIdentity: a host whose host.json is gone is another host to the
// records, until an import says that the disk is its own.
func TestImportRehomesWhatAHostHadBeforeItLostItsIdentity(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	own := map[string]string{"pool": "b"}
	for _, name := range []string{"data", "trashed", "old"} {
		h1.must(h1.Create(t.Context(), name, own))
	}
	h1.write(h1.location("data"), "f", "precious")
	h1.must(h1.Remove(t.Context(), "trashed", nil))
	h1.stop()
	h1.must(os.Remove(filepath.Join(h1.dir, "host.json")))
	h1.start()
	_, err := h1.Mount(t.Context(), "data", "c1", me(t))
	wantError(t, "mount before the import", err, ErrUnavailable, `"h1"`)
	missing, err := h1.Scan(t.Context(), "b", false, "")
	h1.must(err)
	wantStates(t, missing, map[string]string{"data": FoundMissing, "trashed": FoundMissing, "old": FoundMissing})
	brought, err := h1.Scan(t.Context(), "b", true, "")
	h1.must(err)
	wantStates(t, brought, map[string]string{"data": FoundImported, "trashed": FoundTrashed, "old": FoundImported})
	if got := h1.read(h1.mount("data", "c1", me(t)), "f"); got != "precious" {
		t.Errorf("read %q", got)
	}
	h1.must(h1.Unmount(t.Context(), "data", "c1"))
	if _, err := h1.Restore(t.Context(), "trashed", ""); err != nil {
		t.Errorf("restore: %v", err)
	}
	again, err := h1.Scan(t.Context(), "b", true, "")
	h1.must(err)
	wantStates(t, again, map[string]string{"data": FoundKnown, "trashed": FoundKnown, "old": FoundKnown})
	if names, err := h2.Names(t.Context()); err != nil || !slices.Equal(names, []string{"data", "old", "trashed"}) {
		t.Errorf("elsewhere: %v, %v", names, err)
	}
}

// wantStates fails the test unless findings are those, by the volume's name.
func wantStates(t *testing.T, findings []Finding, want map[string]string) {
	t.Helper()
	if len(findings) != len(want) {
		t.Errorf("found %+v, want %v", findings, want)
		return
	}
	for _, f := range findings {
		if want[f.Name] != f.State {
			t.Errorf("found %+v, want the state %q", f, want[f.Name])
		}
	}
}

func TestPoolThatAHostLacksIsNamedWithTheHostsThatHaveIt(t *testing.T) {
	f := newFleet(t, "h1", "h3")
	h1 := f.node("h1")
	h2 := f.add("h2")
	delete(h2.gates, "a")
	h2.start().settled()
	h1.settled()
	f.node("h3").settled()
	h1.must(h1.Create(t.Context(), "data", nil))
	if v, err := h2.Get(t.Context(), "data"); err != nil || v.Pool != "a" || v.Type != "" {
		t.Errorf("get: %+v, %v", v, err)
	}
	if all, err := h2.List(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("list: %v, %v", all, err)
	}
	_, err := h2.Mount(t.Context(), "data", "c1", me(t))
	wantError(t, "mount", err, ErrUnavailable, `pool "a"`, "h1, h3")
	wantError(t, "create", h2.Create(t.Context(), "other", map[string]string{"pool": "a"}), ErrUnavailable, "h1, h3")
	pools, err := h2.ClusterPools(t.Context())
	h2.must(err)
	if len(pools) != 2 || pools[0].Name != "a" || pools[0].ThisHost || !pools[0].Shared || !slices.Equal(pools[0].Hosts, []string{"h1", "h3"}) ||
		pools[1].Name != "b" || !pools[1].ThisHost || pools[1].Shared || !slices.Equal(pools[1].Hosts, []string{"h1", "h2", "h3"}) {
		t.Errorf("pools: %+v", pools)
	}
	h1.stop() // a host that is silent has its pools all the same
	h1.line.fail(nil)
	if pools, err = h2.ClusterPools(t.Context()); err != nil || len(pools[0].Hosts) != 2 {
		t.Errorf("pools: %+v, %v", pools, err)
	}
	h2.must(h2.Remove(t.Context(), "data", nil)) // needs no storage
}

// Who removes a volume whose data is elsewhere has it kept for as long as they say there.
func TestRemovedVolumeIsKeptAsTheHostsThatHaveItSay(t *testing.T) {
	f := newFleet(t)
	ttls := map[string]time.Duration{"h1": 30 * 24 * time.Hour, "h2": 7 * 24 * time.Hour, "h3": time.Minute}
	for _, name := range []string{"h1", "h2", "h3"} {
		h := f.add(name)
		if h.ttl = ttls[name]; name == "h3" {
			delete(h.gates, "a")
		}
		h.start().settled()
	}
	h1, h3 := f.node("h1"), f.node("h3")
	h1.must(h1.Create(t.Context(), "shared", nil))
	h1.must(h1.Create(t.Context(), "own", map[string]string{"pool": "b"}))
	for _, name := range []string{"shared", "own"} {
		h3.must(h3.Remove(t.Context(), name, nil))
	}
	trash, err := h3.Trash(t.Context())
	h3.must(err)
	for _, v := range trash {
		if v.PurgeAt == nil || v.PurgeAt.Sub(v.RemovedAt) != ttls["h1"] {
			t.Errorf("%s is kept from %v to %v, want %v", v.Name, v.RemovedAt, v.PurgeAt, ttls["h1"])
		}
	}
	if len(trash) != 2 {
		t.Errorf("trash: %v", trash)
	}
}

func TestDrainedHostMountsNothingNewAndKeepsWhatItHas(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	for _, name := range []string{"has", "new"} {
		h1.must(h1.Create(t.Context(), name, nil))
	}
	target := h1.mount("has", "c1", me(t))
	h2.must(h2.Drain(t.Context(), "h1", true))
	h2.must(h2.Drain(t.Context(), "h1", true))
	wantError(t, "drain of a stranger", h2.Drain(t.Context(), "nobody", true), ErrInvalid)
	_, err := h1.Mount(t.Context(), "new", "c1", me(t))
	wantError(t, "mount of another volume", err, ErrUnavailable, "drained", "dvold host undrain h1")
	if _, mounted := h1.entry("new"); mounted {
		t.Error("the refused mount left an entry")
	}
	h1.mount("has", "c2", me(t)) // as docker cp does
	h1.must(h1.Unmount(t.Context(), "has", "c2"))
	if !h1.mounted(target) {
		t.Error("the drain unmounted what was mounted")
	}
	h2.mount("new", "c1", me(t)) // others go on
	h2.must(h2.Unmount(t.Context(), "new", "c1"))
	hosts, err := h2.Hosts(t.Context())
	if err != nil || !hosts[0].Draining || hosts[0].Holds != 1 || hosts[1].Draining {
		t.Errorf("hosts: %+v, %v", hosts, err)
	}
	h1.die() // also over a restart, with a mount whose record is of an earlier stay
	h1.start()
	h1.mount("has", "c3", me(t))
	h1.must(errors.Join(h1.Unmount(t.Context(), "has", "c3"), h1.Unmount(t.Context(), "has", "c1")))
	_, err = h1.Mount(t.Context(), "has", "c1", me(t))
	wantError(t, "mount of what was mounted", err, ErrUnavailable, "drained")
	h2.must(h2.Drain(t.Context(), "h1", false))
	h1.mount("has", "c1", me(t))
	h1.must(h1.Unmount(context.Background(), "has", "c1"))
	h1.settled()
}
