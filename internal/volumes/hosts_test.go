package volumes

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dvol/dvold/coordination"
)

func TestHosts(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	other, err := w.coord.Join(t.Context(), coordination.Host{Name: "h0", ID: "another machine", Boot: "b"})
	w.must(err)
	w.must(other.Close(t.Context()))
	all, err := w.Hosts(t.Context())
	w.must(err)
	if len(all) != 2 || all[0].Name != "h0" || all[1].Name != "h1" {
		t.Fatalf("hosts = %+v, want h0 and h1", all)
	}
	if h := all[0]; h.Live || h.ThisHost {
		t.Errorf("host that left = %+v, want neither live nor this one", h)
	}
	if h := all[1]; !h.Live || !h.ThisHost || h.Incarnation != w.current.Incarnation() || h.Since.IsZero() {
		t.Errorf("this host = %+v, want it live, since a time, with incarnation %d", h, w.current.Incarnation())
	}
}

// TestMachineThatGetsAnothersNameForgetsNothingOfIt: what the one that had it before has mounted stays held, for
// it may still write, until somebody vouches for it.
func TestMachineThatGetsAnothersNameForgetsNothingOfIt(t *testing.T) {
	f, _ := newFencedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "data", nil))
	h1.must(h1.Create(t.Context(), "db", exclusive))
	h1.mount("data", "c1", me(t))
	h1.mount("db", "c1", me(t))
	h1.die()
	h1.must(errors.Join(os.Remove(filepath.Join(h1.dir, "host.json")), os.Remove(filepath.Join(h1.dir, "run", "mounts.db"))))
	for _, name := range []string{"data", "db"} { // of another boot, too
		h, err := h2.holderOf(t.Context(), "h1", name)
		h2.must(err)
		stored, err := h2.stored(t.Context(), holderKey(name, "h1"))
		h2.must(err)
		h.Boot = "another"
		stored.Value, err = marshal(h, stored.Value)
		h2.must(err)
		_, err = h2.commit(t.Context(), coordination.Put(stored))
		h2.must(err)
	}
	h1.start() // another machine, of that name
	h1.eventually("it has settled", func() bool { return !h1.unsettled.Load() })
	if held := h2.heldBy("h1"); !slices.Equal(held, []string{"data", "db"}) {
		t.Errorf("held by h1: %v", held)
	}
	for _, n := range f.nodes {
		wantError(t, "remove on "+n.name, n.Remove(t.Context(), "data", nil), ErrInUse, `"h1"`, "may still write", "dvold host forget h1")
	}
	_, err := h1.Mount(t.Context(), "data", "c1", me(t))
	wantError(t, "mount", err, ErrUnavailable, "another machine", "dvold host forget h1")
	h1.mount("db", "c1", me(t)) // by a fence
	h1.wantOwner("db", "h1", 2)
	h1.must(h1.Forget(t.Context(), "h1"))
	wantError(t, "forget once more", h2.Forget(t.Context(), "h1"), ErrInUse, "it is live")
	h1.mount("data", "c1", me(t))
	wantError(t, "remove", h2.Remove(t.Context(), "data", nil), ErrInUse, `"h1"`, "stop its containers")
	h1.wantOwner("db", "h1", 2)
}

// TestHostThatLosesItsStateGoesOnHolding: it has another ID then, and what it has mounted is its own all the same.
func TestHostThatLosesItsStateGoesOnHolding(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "data", nil))
	h1.mount("data", "c1", me(t))
	h1.die()
	h1.must(os.Remove(filepath.Join(h1.dir, "host.json")))
	h1.start().settled()
	wantError(t, "remove", h2.Remove(t.Context(), "data", nil), ErrInUse, `"h1"`, "stop its containers")
	h1.must(h1.Unmount(t.Context(), "data", "c1"))
	h2.must(h2.Remove(t.Context(), "data", nil))
}
