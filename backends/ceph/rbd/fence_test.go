//go:build ceph && cgo

package rbd_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/backends/ceph/rbd"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// victim is what a fence is told of the host that has a volume.
func victim(handle string, identity backends.Identity) backends.Fence {
	return backends.Fence{Host: "h1", Incarnation: 1, Pool: "pool", Volume: "db", ID: "db.000000000001", Handle: handle, Epoch: 1, Identity: identity}
}

// refused waits until a file system has found out that its disk refuses it.
func refused(t *testing.T, target string) error {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err := write(target, "late"); err != nil {
			return err
		}
	}
	t.Fatal("what was fenced can write")
	return nil
}

// A writer is cut off from the volume that is taken over, and from no other; the next
// owner mounts it at once, finds what was synced, and notices nothing of a fence that
// is repeated late.
func TestFence(t *testing.T) {
	old := newPool(t, nil)
	next := inNamespace(t, old.config.Namespace, func(c *rbd.Config) {
		c.Fencer, c.FencerKeyring = "fencer", cephtest.Keyring("fencer")
		c.Mapper = "fuse" // a kernel has an image once, for whichever host it is here
	})
	taken, kept := old.create("taken"), old.create("kept")
	target, identity := old.own(taken)
	other, _ := old.own(kept)
	old.write(target, "synced")
	old.write(other, "synced")
	if !strings.HasPrefix(identity.Domain, "volume/") || len(identity.Domain) > 200 || strings.Contains(identity.Domain, " ") {
		t.Errorf("got domain %q", identity.Domain)
	}

	fence := victim(taken, identity)
	begin := time.Now()
	for range 2 {
		if err := next.Fence(t.Context(), fence); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("fenced twice in %v", time.Since(begin))
	begin = time.Now()
	newTarget, newIdentity := next.own(taken)
	t.Logf("owned by the next in %v", time.Since(begin))
	next.want(newTarget, "synced")
	next.write(newTarget, "next")
	t.Logf("the old owner: %v", refused(t, target))
	if err := next.Fence(t.Context(), fence); err != nil { // late
		t.Error(err)
	}
	next.write(newTarget, "next, later")
	old.write(other, "kept")
	old.want(other, "kept")

	// What waits for the cluster to take what it wrote learns that it won't.
	for end := time.Now().Add(30 * time.Second); mapper() == "fuse" && len(old.clients()) > 1; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the client that was fenced goes on")
		}
	}
	old.unmount(taken, target)
	old.want(other, "kept")

	listed := cephtest.Admin(t, "ceph", "osd", "blocklist", "ls")
	if a := identity.Facts["address"]; !strings.Contains(listed, a) || strings.Contains(listed, newIdentity.Facts["address"]) {
		t.Errorf("got blocklist %q, want %s and not %s", listed, a, newIdentity.Facts["address"])
	}
	// The lock is the new owner's, or nobody's: never that of the old.
	if locks := cephtest.Admin(t, "rbd", "lock", "ls", "rbd/"+old.config.Namespace+"/"+taken[len("volumes/"):]); strings.Contains(locks, identity.Facts["address"]) {
		t.Errorf("got locks %q", locks)
	}
	for range 2 {
		if err := next.Unfence(t.Context(), fence); err != nil {
			t.Error(err)
		}
	}
	if listed := cephtest.Admin(t, "ceph", "osd", "blocklist", "ls"); strings.Contains(listed, identity.Facts["address"]) {
		t.Errorf("let in again, and still in blocklist %q", listed)
	}
	next.unmount(taken, newTarget)
	if got := next.mapped(); len(got) != 0 {
		t.Errorf("unmounted, and mapped as %q", got)
	}
}

// A client that hangs, and has all wait who see to it, mount or unmount, is ended all the same once it is fenced.
func TestFenceOfHangingClient(t *testing.T) {
	if mapper() != "fuse" {
		t.Skip("the kernel's client does not hang by itself")
	}
	old := newPool(t, nil)
	next := inNamespace(t, old.config.Namespace, nil)
	handle, unused := old.create("db"), old.create("unused")
	target, identity := old.own(handle)
	unusedIdentity := old.connect(unused)
	unusedTarget := hosttest.Subdir(t, old.run, "unused")
	old.write(target, "synced")
	for _, pid := range old.clients() {
		hosttest.Freeze(t, pid)
	}
	ended := make(chan error, 3)
	ctx := context.WithoutCancel(t.Context())
	go func() { ended <- write(target, "late") }()
	go func() {
		ended <- old.Mount(ctx, unused, unusedTarget, backends.MountOptions{Alone: true, Identity: &unusedIdentity})
	}()
	time.Sleep(rbd.TendInterval + time.Second) // now they are being seen to
	go func() { ended <- old.Unmount(ctx, handle, target) }()
	for _, f := range []backends.Fence{victim(handle, identity), victim(unused, unusedIdentity)} {
		if err := next.Fence(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	newTarget, _ := next.own(handle)
	next.want(newTarget, "synced")
	late := time.After(60 * time.Second) // the cluster believes in a client that is silent for 15 s
	for range cap(ended) {
		select {
		case err := <-ended:
			t.Logf("what hung ended: %v", err)
		case <-late:
			t.Fatal("what waits for a client that was fenced goes on")
		}
	}
	next.unmount(handle, newTarget)
	old.unmount(handle, target)
	old.unmount(unused, unusedTarget)
	if got := append(old.mapped(), next.mapped()...); len(got) != 0 || len(old.clients()) != 0 {
		t.Errorf("unmounted, and mapped as %q by %d", got, old.clients())
	}
}

// The entry stays for years: a host that was suspended does not wake up to find itself
// let in. The library's own entry, made when a lock is broken, would be for an hour.
func TestFenceLasts(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("db")
	target, identity := p.own(handle)
	p.write(target, "locked") // the client has the lock now
	if err := p.Fence(t.Context(), victim(handle, identity)); err != nil {
		t.Fatal(err)
	}
	next := inNamespace(t, p.config.Namespace, func(c *rbd.Config) { c.Mapper = "fuse" })
	newTarget, _ := next.own(handle)
	next.write(newTarget, "next") // it takes the lock
	for line := range strings.Lines(cephtest.Admin(t, "ceph", "osd", "blocklist", "ls")) {
		address, until, _ := strings.Cut(strings.TrimSpace(line), " ")
		if address != identity.Facts["address"] {
			continue
		}
		end, err := time.Parse("2006-01-02T15:04:05.000000-0700", until)
		if err != nil || time.Until(end) < 4*365*24*time.Hour {
			t.Errorf("got an entry until %s, %v", until, err)
		}
		return
	}
	t.Error("the client is not on the blocklist")
}

// A host that had not connected has nothing to be cut off from; one that says so of
// another cluster, or left no client, is not fenced.
func TestFenceOfNobody(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("db")
	identity, err := p.Identity(t.Context(), handle)
	if err != nil || len(identity.Facts) != 0 {
		t.Fatalf("got %+v, %v", identity, err)
	}
	before := cephtest.Admin(t, "ceph", "osd", "blocklist", "ls")
	if err := p.Fence(t.Context(), victim(handle, identity)); err != nil {
		t.Error(err)
	}
	if err := p.Unfence(t.Context(), victim(handle, identity)); err != nil {
		t.Error(err)
	}
	connected := p.connect(handle)
	for what, change := range map[string]func(facts map[string]string, domain *string){
		"a host's address":  func(f map[string]string, _ *string) { f["address"] = "10.97.0.1" },
		"all of a host":     func(f map[string]string, _ *string) { f["address"] = "10.97.0.1:0/0" },
		"a network":         func(f map[string]string, _ *string) { f["address"] = "10.97.0.0/24" },
		"no address":        func(f map[string]string, _ *string) { delete(f, "address") },
		"another cluster":   func(f map[string]string, _ *string) { f["cluster"] = "00000000-0000-0000-0000-000000000000" },
		"another's domain":  func(_ map[string]string, d *string) { *d = "volume/rbd/0/1/2" },
		"a gluster address": func(_ map[string]string, d *string) { *d = "gluster/1/10.97.0.1" },
	} {
		bad := backends.Identity{Domain: connected.Domain, Facts: map[string]string{}}
		for name, fact := range connected.Facts {
			bad.Facts[name] = fact
		}
		change(bad.Facts, &bad.Domain)
		if err := p.Fence(t.Context(), victim(handle, bad)); err == nil {
			t.Errorf("%s: fenced", what)
		}
		if err := p.Unfence(t.Context(), victim(handle, bad)); err == nil {
			t.Errorf("%s: let in again", what)
		}
	}
	if after := cephtest.Admin(t, "ceph", "osd", "blocklist", "ls"); after != before {
		t.Errorf("the blocklist became %q", after)
	}
	p.unmount(handle, p.run+"/nowhere")
}

// A fence that the cluster does not confirm is none.
func TestFenceUnconfirmed(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("db")
	fence := victim(handle, p.connect(handle))
	heal := cephtest.CutOff(t)
	if err := p.Fence(t.Context(), fence); !errors.Is(err, backends.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	heal()
	reader := inNamespace(t, p.config.Namespace, func(c *rbd.Config) { c.Cluster = cephtest.Config(t, "reader") })
	err := reader.Fence(t.Context(), fence)
	if !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), "caps of client.reader") {
		t.Errorf("without the caps: got %v", err)
	}
	p.unmount(handle, p.run+"/nowhere")
}

// Without a user that may take it off, the entry stays, and nothing fails by that.
func TestUnfenceWithoutFencer(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("db")
	fence := victim(handle, p.connect(handle))
	if err := p.Fence(t.Context(), fence); err != nil {
		t.Fatal(err)
	}
	if err := p.Unfence(t.Context(), fence); err != nil {
		t.Error(err)
	}
	// The host itself goes on by another client, for its mapping is of no use.
	identity := p.connect(handle)
	if identity.Facts["address"] == fence.Identity.Facts["address"] {
		t.Errorf("connected as %s again", identity.Facts["address"])
	}
	target := p.mount(handle, backends.MountOptions{Alone: true, Identity: &identity})
	p.write(target, "again")
	p.unmount(handle, target)
}

// What is connected stays what it was for a dvold that was started anew; an earlier
// client of the host is refused.
func TestConnectAgain(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("db")
	first := p.connect(handle)
	if err := p.Remove(t.Context(), handle); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("remove what is connected: got %v", err)
	}
	again := p.reopen() // two would see to the same clients
	second, err := again.Connect(t.Context(), handle, first)
	if err != nil || second.Facts["address"] != first.Facts["address"] || second.Domain != first.Domain {
		t.Errorf("got %+v, %v, want %+v", second, err, first)
	}
	target := again.mount(handle, backends.MountOptions{Alone: true, Identity: &second})
	again.write(target, "data")

	// The record of another client is not the one that it is mounted by.
	wrong := backends.Identity{Domain: first.Domain, Facts: map[string]string{"address": "10.97.0.1:0/1", "cluster": first.Facts["cluster"]}}
	for _, id := range []*backends.Identity{&wrong, {Domain: first.Domain}} {
		err := again.Mount(t.Context(), handle, target, backends.MountOptions{Alone: true, Identity: id})
		if !errors.Is(err, backends.ErrUnavailable) {
			t.Errorf("mount as %v: got %v", id.Facts, err)
		}
	}
	again.unmount(handle, target)
	err = again.Mount(t.Context(), handle, target, backends.MountOptions{Alone: true, Identity: &second})
	if !errors.Is(err, backends.ErrUnavailable) {
		t.Errorf("mount by a client that has ended: got %v", err)
	}

	third, err := again.Connect(t.Context(), handle, second)
	if err != nil || third.Facts["address"] == second.Facts["address"] {
		t.Fatalf("got %+v, %v, want another client than %+v", third, err, second)
	}
	if listed := cephtest.Admin(t, "ceph", "osd", "blocklist", "ls"); !strings.Contains(listed, second.Facts["address"]) {
		t.Errorf("the earlier client is not refused: %q", listed)
	}
	target = again.mount(handle, backends.MountOptions{Alone: true, Identity: &third})
	again.want(target, "data")
	again.unmount(handle, target)
}

// A client that was killed is replaced at once, by the one that its record makes
// known; and what it has mounted is said to be lost.
func TestConnectAfterClientDied(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("db")
	target, identity := p.own(handle)
	p.write(target, "data")
	p.killClients()
	_, err := p.Connect(t.Context(), handle, identity)
	if !errors.Is(err, backends.ErrInUse) {
		t.Errorf("connect while it is mounted: got %v", err)
	}
	err = p.Mount(t.Context(), handle, target, backends.MountOptions{Alone: true, Identity: &identity})
	if err == nil {
		t.Error("mounted again by a client that is dead")
	}
	p.unmount(handle, target)
	next, err := p.Connect(t.Context(), handle, identity)
	if err != nil {
		t.Fatal(err)
	}
	target = p.mount(handle, backends.MountOptions{Alone: true, Identity: &next})
	p.want(target, "data")
	p.unmount(handle, target)
}

// Another host has it: that is said, with its client, and it is left alone.
func TestConnectWhileAnotherHasIt(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("db")
	target, identity := p.own(handle)
	other := inNamespace(t, p.config.Namespace, func(c *rbd.Config) { c.MountTimeout = 2 * time.Second })
	id, err := other.Identity(t.Context(), handle)
	if err != nil || id.Domain != identity.Domain {
		t.Errorf("got %+v, %v, want domain %s", id, err, identity.Domain)
	}
	_, err = other.Connect(t.Context(), handle, id)
	if !errors.Is(err, backends.ErrInUse) || !strings.Contains(err.Error(), identity.Facts["address"]) {
		t.Errorf("got %v", err)
	}
	if err := other.Remove(t.Context(), handle); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("remove: got %v", err)
	}
	p.write(target, "data")
	p.unmount(handle, target)
}

// Who is the next owner after one that died, and was not fenced, has its client refused and
// does not wait until that does not count any more.
func TestConnectAfterOwnerDied(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("db")
	target, identity := p.own(handle)
	p.write(target, "data")
	p.killClients()
	next := inNamespace(t, p.config.Namespace, nil)
	begin := time.Now()
	id, err := next.Connect(t.Context(), handle, identity)
	if err != nil || id.Facts["address"] == identity.Facts["address"] {
		t.Fatalf("got %+v, %v, want another client than %+v", id, err, identity)
	}
	if took := time.Since(begin); took > 10*time.Second { // of 15, osd_client_watch_timeout
		t.Errorf("it took %v", took)
	} else {
		t.Logf("it took %v", took)
	}
	if listed := cephtest.Admin(t, "ceph", "osd", "blocklist", "ls"); !strings.Contains(listed, identity.Facts["address"]) {
		t.Errorf("the client of the last owner is not refused: %q", listed)
	}
	p.unmount(handle, target)
	at := next.mount(handle, backends.MountOptions{Alone: true, Identity: &id})
	next.want(at, "data")
	next.unmount(handle, at)
}
