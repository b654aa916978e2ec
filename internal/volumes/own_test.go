package volumes

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/internal/standing"
)

// newFencedFleet is newFleet whose shared pool can fence.
func newFencedFleet(t *testing.T, names ...string) (*fleet, *fences) {
	t.Helper()
	t.Parallel()
	hosttest.Root(t)
	all := &fences{cut: make(map[string]bool)}
	f := &fleet{t: t, dir: hosttest.Tmpfs(t, "")} // of its own: cuts look at all that is open in it
	f.store = f.openStore("cluster.db")
	t.Cleanup(f.end)
	for _, name := range names {
		n := f.add(name)
		n.fencer = &fencer{all, name}
		n.terms = Exclusive{Takeover: TakeoverAuto, OnSessionLoss: standing.Keep, MountWait: 5 * time.Second}
		n.start()
	}
	return f, all
}

var exclusive = map[string]string{"access": "exclusive"}

// owner is the record of who owns the volume.
func (n *node) owner(name string) owner {
	n.t.Helper()
	r, err := n.existing(context.Background(), name)
	n.must(err)
	o, err := n.loadOwner(context.Background(), r.ID)
	n.must(err)
	return o
}

func (n *node) wantOwner(name, host string, epoch uint64) {
	n.t.Helper()
	o := n.owner(name)
	if got := o.Host; got != host || o.Epoch != epoch {
		n.t.Errorf("%q is owned by %q, epoch %d (%s); want %q, %d", name, got, o.Epoch, o.State, host, epoch)
	}
}

// silence ends the host's session and keeps it from joining again.
func (n *node) silence() {
	n.t.Helper()
	n.line.fail(away)
	n.line.mu.Lock()
	joined := n.line.joined
	n.line.mu.Unlock()
	n.must(joined.Close(context.Background()))
	n.eventually(n.name+" knows that it is out", func() bool { _, err := n.session(); return err != nil })
}

// heard lets it join again.
func (n *node) heard() {
	n.t.Helper()
	n.line.fail(nil)
	n.eventually(n.name+" is back", func() bool { _, err := n.session(); return err == nil && n.reach.err() == nil })
}

func TestExclusiveVolumeMovesWithItsContainer(t *testing.T) {
	f, all := newFencedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	h1.write(h1.mount("db", "c1", me(t)), "row", "one")
	h1.wantOwner("db", "h1", 1)
	h1.mount("db", "c2", me(t)) // again on the same host
	got := make(chan error, 1)
	go func() {
		_, err := h2.Mount(t.Context(), "db", "c1", me(t))
		got <- err
	}()
	h1.eventually("h1 was asked and has answered", func() bool {
		o, err := h2.Inspect(t.Context(), "db")
		return err == nil && o.Owner.Host == "h1" && len(h1.keys("requests/h1/")) == 1
	})
	h1.must(h1.Unmount(t.Context(), "db", "c2"))
	select {
	case err := <-got:
		t.Fatalf("mounted on both: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	h1.must(h1.Unmount(t.Context(), "db", "c1"))
	h1.must(<-got)
	if text := h2.read(h2.target(h2.idOf("db")), "row"); text != "one" {
		t.Errorf("h2 reads %q", text)
	}
	h2.wantOwner("db", "h2", 2)
	if keys := h1.keys("requests/"); len(keys) != 0 {
		t.Errorf("requests are left: %v", keys)
	}
	h2.must(h2.Unmount(t.Context(), "db", "c1"))
	h2.settled()
	h1.settled()
	if o := h1.owner("db"); o.State != ownerFree || o.Epoch != 2 {
		t.Errorf("owner: %+v", o)
	}
	if said := all.log(); len(said) > 0 {
		t.Errorf("fenced: %v", said)
	}
	h1.must(h1.Remove(t.Context(), "db", nil))
	v, err := h2.Restore(t.Context(), "db", "")
	h2.must(err)
	h2.mount(v.Name, "c1", me(t))
	h2.wantOwner("db", "h2", 3) // the epoch outlives a removal
	h2.must(h2.Unmount(t.Context(), "db", "c1"))
	h2.must(h2.Remove(t.Context(), "db", nil))
	_, err = h2.Purge(t.Context(), v.ID)
	h2.must(err)
	if keys := h1.keys("owners/"); len(keys) != 0 {
		t.Errorf("owners are left: %v", keys)
	}
}

func (n *node) idOf(name string) string {
	n.t.Helper()
	v, err := n.Get(context.Background(), name)
	n.must(err)
	return v.ID
}

func TestMountOfWhatALiveHostOwnsIsRefusedAfterAWhile(t *testing.T) {
	f, _ := newFencedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "db", map[string]string{"access": "exclusive", "mount_wait": "300ms"}))
	target := h1.mount("db", "c1", me(t))
	_, err := h2.Mount(t.Context(), "db", "c1", me(t))
	wantError(t, "mount", err, ErrInUse, `host "h1"`, "since", "a container uses it there")
	wantError(t, "remove", h2.Remove(t.Context(), "db", nil), ErrInUse, `"h1"`)
	wantError(t, "release", h2.Release(t.Context(), "db", "h1"), ErrInUse, "live")
	if !h1.mounted(target) {
		t.Error("unmounted on h1")
	}
	h2.settled()
	h1.wantOwner("db", "h1", 1)
	if n := len(h2.mountsNow()); n > 0 {
		t.Errorf("h2 has %d mounts", n)
	}
}

func TestOwnerThatComesBackInTimeGoesOn(t *testing.T) {
	f, all := newFencedFleet(t, "h1", "h2")
	h1 := f.node("h1")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	target := h1.mount("db", "c1", me(t))
	before := h1.owner("db").Incarnation
	h1.silence()
	_, err := h1.Mount(t.Context(), "other", "c1", me(t))
	wantError(t, "mount of a new one", err, ErrUnavailable)
	h1.heard()
	h1.eventually("it is its owner again", func() bool { o := h1.owner("db"); return o.Incarnation > before && o.Host == "h1" })
	h1.wantOwner("db", "h1", 1)
	if !h1.mounted(target) || len(all.log()) > 0 {
		t.Errorf("mounted: %t, %v", h1.mounted(target), all.log())
	}
	h1.mount("db", "c2", me(t))
	// and over a restart of dvold
	h1.stop()
	h1.start()
	h1.eventually("it is its owner again", func() bool { o, ok := h1.owned("db"); return ok && o.epoch == 1 })
	h1.must(h1.Unmount(t.Context(), "db", "c1"))
	h1.must(h1.Unmount(t.Context(), "db", "c2"))
	h1.settled()
	if o := h1.owner("db"); o.State != ownerFree {
		t.Errorf("owner: %+v", o)
	}
}

// TestGuardComesAndGoes: the records say so of what is mounted already.
func TestGuardComesAndGoes(t *testing.T) {
	h1, h2, _ := leaseFleet(t, 20*time.Second)
	h1.mount("db", "c1", me(t))
	for range 2 {
		if h2.owner("db").Terms.Guarded {
			t.Error("guarded, without a guard")
		}
		end := h1.guarded()
		h2.eventually("guarded", func() bool { return h2.owner("db").Terms.Guarded })
		end()
		h2.eventually("not guarded any more", func() bool { return !h2.owner("db").Terms.Guarded })
	}
	h2.wantOwner("db", "h1", 1)
	h1.must(h1.Unmount(t.Context(), "db", "c1"))
}

// What is kept about the owners of a volume goes with the last of the volume, for its ID never
// comes back: also of one that was adopted, or whose data went with a host.
func TestOwnersAreForgottenWithTheVolume(t *testing.T) {
	f, _ := newFencedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(os.MkdirAll(filepath.Join(f.dir, "pools", "a", "old"), 0o755))
	stamps := filepath.Join(f.dir, "pools", "a", "stamps")
	for name, option := range map[string][2]string{"adopted": {"adopt", "old"}, "own": {"pool", "b"}} {
		h1.must(h1.Create(t.Context(), name, map[string]string{"access": "exclusive", option[0]: option[1]}))
		h1.mount(name, "c1", me(t))
		h1.must(h1.Unmount(t.Context(), name, "c1"))
	}
	if kept := dirNames(t, stamps); len(kept) != 1 || len(h1.keys("owners/")) != 2 {
		t.Fatalf("stamps are %v, owners %v", kept, h1.keys("owners/"))
	}
	h1.settled()
	h1.must(h1.Remove(t.Context(), "adopted", nil))
	h1.must(h1.Remove(t.Context(), "own", nil))
	if kept := dirNames(t, stamps); len(kept) != 0 || len(h1.keys("owners/")) != 1 {
		t.Errorf("of what was adopted there are left %v, %v", kept, h1.keys("owners/"))
	}
	h1.die()
	h2.must(h2.Forget(t.Context(), "h1"))
	_, err := h2.Purge(t.Context(), "own")
	h2.must(err)
	if keys := h2.keys("owners/"); len(keys) != 0 {
		t.Errorf("owners are left: %v", keys)
	}
}
