//go:build ceph && cgo

package cephfs_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephfs"
	"github.com/dvol/dvold/backends/ceph/cephtest"
)

// Connect is repeated, found again, undone by Unmount, and replaces what has ended.
func TestConnect(t *testing.T) {
	p := newFencingPool(t, nil)
	handle := p.create("mine")
	f := p.connect(handle)
	again, err := p.fencer.Connect(t.Context(), handle, f.Identity)
	if err != nil || again.Facts["address"] != f.Identity.Facts["address"] {
		t.Errorf("again: %v, %v", again, err)
	}
	if err := p.Remove(t.Context(), handle); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("remove: %v", err)
	}
	restarted := fencing(t, open(t, p.run, func(c *cephfs.Config) {
		c.Subdir, c.Fencer, c.FencerKeyring = p.subdir, "evictor", cephtest.Keyring("evictor")
	}))
	again, err = restarted.Connect(t.Context(), handle, f.Identity)
	if err != nil || again.Facts["address"] != f.Identity.Facts["address"] {
		t.Errorf("by another dvold: %v, %v", again, err)
	}
	own := p.mount(handle, backends.MountOptions{Alone: true, Identity: &again})
	p.write(own, "x")
	again, err = p.fencer.Connect(t.Context(), handle, f.Identity)
	if err != nil || again.Facts["address"] != f.Identity.Facts["address"] {
		t.Errorf("once mounted: %v, %v", again, err)
	}
	if err := p.Unmount(t.Context(), handle, own); err != nil {
		t.Fatal(err)
	}
	p.wantNone()

	// One that was killed before it was mounted.
	f = p.connect(handle)
	if err := unix.Kill(p.ownClient(handle).PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.eventually("its end", func() bool { return p.ownClient(handle).PID == 0 })
	if err := p.Mount(t.Context(), handle, own, backends.MountOptions{Alone: true, Identity: &f.Identity}); !errors.Is(err, backends.ErrUnavailable) {
		t.Errorf("mount without a client: %v", err)
	}
	next, err := p.fencer.Connect(t.Context(), handle, f.Identity)
	if err != nil || next.Facts["address"] == f.Identity.Facts["address"] {
		t.Fatalf("got %v, %v, want another client than %v", next, err, f.Identity)
	}
	if listed := cephtest.Admin(t, "ceph", "osd", "blocklist", "ls"); !strings.Contains(listed, f.Identity.Facts["address"]) {
		t.Errorf("the earlier client is not refused: %q", listed)
	}
	elsewhere := backends.Identity{Domain: next.Domain, Facts: map[string]string{"address": "10.97.0.1:0/1", "cluster": "00000000-0000-0000-0000-000000000000"}}
	if again, err := p.fencer.Connect(t.Context(), handle, elsewhere); err != nil || !maps.Equal(again.Facts, next.Facts) {
		t.Errorf("after one of another cluster: %v, %v", again, err)
	}
	if listed := cephtest.Admin(t, "ceph", "osd", "blocklist", "ls"); strings.Contains(listed, "10.97.0.1:0/1 ") {
		t.Errorf("another cluster's client is refused: %q", listed)
	}
	// Undone, though it was never mounted.
	if err := p.Unmount(t.Context(), handle, own); err != nil {
		t.Fatal(err)
	}
	p.wantNone()

	missing := "volumes/nosuch.0123456789ab"
	id, err := p.fencer.Identity(t.Context(), missing)
	if err == nil {
		_, err = p.fencer.Connect(t.Context(), missing, id)
	}
	if !errors.Is(err, backends.ErrNotFound) {
		t.Errorf("connect to a missing volume: %v", err)
	}
	if _, err := p.fencer.Connect(t.Context(), handle, id); !errors.Is(err, backends.ErrUnavailable) {
		t.Errorf("connect by what another volume is recorded by: %v", err)
	}
	p.wantNone()
	if err := p.Remove(t.Context(), handle); err != nil {
		t.Error(err)
	}
}
