//go:build ceph && cgo

package rbd_test

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
	"github.com/dvol/dvold/backends/ceph/rbd"
)

// reopen is the pool of a dvold that is started anew, and is asked for nothing.
func (p *pool) reopen() *pool {
	p.t.Helper()
	if err := p.Pool.Close(); err != nil {
		p.t.Fatal(err)
	}
	return &pool{open(p.t, p.config, p.run), p.t, p.config, p.run}
}

// wantKnown waits until it is known by which client a volume is mapped.
func (p *pool) wantKnown(handle string, identity backends.Identity) {
	p.t.Helper()
	want := ceph.Address(identity.Facts["address"])
	for end := time.Now().Add(30 * time.Second); p.Known(handle) != want; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("it is mapped by %q, want %s", p.Known(handle), want)
		}
	}
}

// What an earlier dvold has mapped is seen to: a file system takes up an image that another host made larger, a
// client that is fenced is ended, and what was left is taken away.
func TestFoundAgain(t *testing.T) {
	if mapper() != "fuse" {
		t.Skip("see TestKernel")
	}
	first := newPool(t, func(c *rbd.Config) { c.FileSystem, c.Size = "xfs", 304<<20 })
	next := inNamespace(t, first.config.Namespace, nil)
	handle, unmounted := first.create("db"), first.create("unmounted")
	target, identity := first.own(handle)
	unmountedIdentity := first.connect(unmounted)
	p := first.reopen()
	p.wantKnown(handle, identity)
	p.wantKnown(unmounted, unmountedIdentity)
	blocks := func() int64 {
		var st unix.Statfs_t
		if err := unix.Statfs(target, &st); err != nil {
			t.Fatal(err)
		}
		return int64(st.Blocks) * st.Bsize
	}
	before := blocks()
	if err := next.Resize(t.Context(), handle, 352<<20); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); blocks() < before+40<<20; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("resized from %d to %d", before, blocks())
		}
	}
	for h, id := range map[string]backends.Identity{handle: identity, unmounted: unmountedIdentity} {
		if err := next.Fence(t.Context(), victim(h, id)); err != nil {
			t.Fatal(err)
		}
	}
	p.wantNoClient()
	p.unmount(handle, target)
	p.unmount(unmounted, p.run+"/nowhere")
	if got := p.mapped(); len(got) != 0 {
		t.Errorf("unmounted, and mapped as %q", got)
	}
}

// What is mapped read-only, and was not unmapped, goes; what is mounted stays.
func TestFoundReadOnly(t *testing.T) {
	if mapper() != "fuse" {
		t.Skip("the loop devices of rbd-fuse are looked at")
	}
	first := newPool(t, nil)
	handle, kept := first.create("db"), first.create("kept")
	target := first.mount(handle, backends.MountOptions{ReadOnly: true})
	keptAt := first.mount(kept, backends.MountOptions{ReadOnly: true})
	if err := first.Pool.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(target, 0); err != nil {
		t.Fatal(err)
	}
	p := &pool{open(t, first.config, first.run), t, first.config, first.run}
	for end := time.Now().Add(30 * time.Second); len(p.mapped()) > 1; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("mapped as %q", p.mapped())
		}
	}
	time.Sleep(rbd.TendInterval + time.Second)
	if _, err := os.ReadDir(keptAt); err != nil || len(p.mapped()) != 1 {
		t.Errorf("what is mounted: %v, and mapped as %q", err, p.mapped())
	}
	p.unmount(kept, keptAt)
	if got := p.mapped(); len(got) != 0 {
		t.Errorf("unmounted, and mapped as %q", got)
	}
}
