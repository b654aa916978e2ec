package volumes

import (
	"context"
	"testing"

	"github.com/dvol/dvold/backends"
)

// limit is what the storage has for a volume.
func (n *node) limit(name string) int64 {
	n.t.Helper()
	v, err := n.Get(n.t.Context(), name)
	n.must(err)
	info, err := n.gates[v.Pool].Stat(n.t.Context(), v.Handle)
	n.must(err)
	return info.Size
}

func (n *node) resize(name string, size int64) {
	n.t.Helper()
	v, err := n.Resize(n.t.Context(), name, size)
	n.must(err)
	if v.Size != size || n.limit(name) != size {
		n.t.Errorf("resized to %d: got %d, and the storage has %d", size, v.Size, n.limit(name))
	}
}

// A volume is resized while hosts have it mounted, by any host that has its pool.
func TestResize(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "data", nil))
	h1.mount("data", "c1", me(t))
	for _, n := range []*node{h1, h2, h2} {
		n.resize("data", 1<<20)
	}
	h1.resize("data", 2<<20)
	v, err := h2.Get(t.Context(), "data")
	if err != nil || v.Size != 2<<20 {
		t.Errorf("the other host says %d, %v", v.Size, err)
	}
	d, err := h2.Inspect(t.Context(), "data")
	if err != nil || d.Size != 2<<20 || d.Problem != "" {
		t.Errorf("inspect: %d, %q, %v", d.Size, d.Problem, err)
	}
	h2.mount("data", "c2", me(t))
	h2.resize("data", 0)
	for _, n := range []*node{h1, h2} {
		n.must(n.Unmount(t.Context(), "data", map[*node]string{h1: "c1", h2: "c2"}[n]))
	}
	h1.must(h1.Remove(t.Context(), "data", nil))
	_, err = h1.Resize(t.Context(), "data", 1<<20)
	wantError(t, "resize what was removed", err, ErrNotFound)
}

// An exclusive volume needn't be the caller's.
func TestResizeOfAnotherHostsExclusiveVolume(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "data", map[string]string{"access": "exclusive"}))
	h1.mount("data", "c1", me(t))
	h2.resize("data", 1<<20)
	h1.must(h1.Unmount(t.Context(), "data", "c1"))
}

func TestResizeRefused(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "there", map[string]string{"pool": "b"}))
	_, err := h2.Resize(t.Context(), "there", 1<<20)
	wantError(t, "resize what another host has", err, ErrUnavailable, `host "h1" alone`)
	_, err = h1.Resize(t.Context(), "nothing", 1<<20)
	wantError(t, "resize nothing", err, ErrNotFound)
	_, err = h1.Resize(t.Context(), "there", -1)
	wantError(t, "resize below 0", err, ErrInvalid)

	h1.pools["b"].Backend = struct{ backends.Backend }{h1.gates["b"]}
	_, err = h1.Resize(t.Context(), "there", 1<<20)
	wantError(t, "resize in a pool that can't", err, ErrInvalid, `pool "b" (local) can't`)
	v, err := h1.Get(t.Context(), "there")
	if err != nil || v.Size != 0 {
		t.Errorf("got %+v, %v", v, err)
	}
	h1.must(h1.Remove(t.Context(), "there", nil)) // no intent was left
}

// A size that the storage does not take leaves everything as it was.
func TestResizeThatTheStorageRefuses(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "data", nil))
	h1.resize("data", 2<<20)
	h1.pools["a"].Backend = refusing{h1.gates["a"]}
	_, err := h1.Resize(t.Context(), "data", 1<<20)
	wantError(t, "resize below use", err, ErrInvalid, "delete some first")
	h2.mount("data", "c1", me(t)) // no intent was left
	if v, err := h2.Get(t.Context(), "data"); err != nil || v.Size != 2<<20 {
		t.Errorf("got size %d, %v", v.Size, err)
	}
	h2.must(h2.Unmount(t.Context(), "data", "c1"))
}

// refusing is a pool whose volumes hold more than they can get.
type refusing struct{ *gate }

func (refusing) Resize(context.Context, string, int64) error { return backends.CheckResize(1, 2) }
