//go:build ceph && cgo

package rbd_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
	"github.com/dvol/dvold/backends/ceph/cephtest"
)

// A host may be stopped between two looks at the cluster, and another has the image by
// the second: a client that is alive is never taken for one that has died.
func TestUnlockSparesTheLiving(t *testing.T) {
	p := newPool(t, nil)
	late := inNamespace(t, p.config.Namespace, nil)
	handle := p.create("db")
	target, identity := p.own(handle)
	p.write(target, "data") // the client has the lock now
	address := identity.Facts["address"]
	if locks := cephtest.Admin(t, "rbd", "lock", "ls", p.spec(handle)); !strings.Contains(locks, address) {
		t.Fatalf("got locks %q, want one of %s", locks, address)
	}
	for _, q := range []*pool{late, p} {
		live, err := q.Unlock(t.Context(), handle)
		if err != nil || !slices.Equal(live, []ceph.Address{ceph.Address(address)}) {
			t.Errorf("got %q, %v, want %s", live, err, address)
		}
	}
	if listed := cephtest.Admin(t, "ceph", "osd", "blocklist", "ls"); strings.Contains(listed, address) {
		t.Errorf("a live client was refused: %q", listed)
	}
	p.write(target, "more")
	p.want(target, "more")
	p.unmount(handle, target)
}

// A client that was killed has the lock still when the cluster does not count it any
// more: it is refused for good, and so is nobody else.
func TestUnlockOfTheDead(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("db")
	target, identity := p.own(handle)
	p.write(target, "data")
	p.killClients()
	p.unmount(handle, target)
	next := inNamespace(t, p.config.Namespace, nil)
	nextTarget, nextIdentity := next.own(handle) // waits until it does not count
	next.want(nextTarget, "data")
	next.write(nextTarget, "next")
	listed := cephtest.Admin(t, "ceph", "osd", "blocklist", "ls")
	if a := identity.Facts["address"]; !strings.Contains(listed, a) || strings.Contains(listed, nextIdentity.Facts["address"]) {
		t.Errorf("got blocklist %q, want %s and not %s", listed, a, nextIdentity.Facts["address"])
	}
	next.unmount(handle, nextTarget)
}

// A lock that somebody has made by hand keeps every writer waiting, without end: that is
// said, and nobody is refused for it. A fence is none the less one.
func TestForeignLock(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("db")
	cephtest.Admin(t, "rbd", "lock", "add", p.spec(handle), "mine")
	before := cephtest.Admin(t, "ceph", "osd", "blocklist", "ls")
	identity, err := p.Identity(t.Context(), handle)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Connect(t.Context(), handle, identity)
	if !errors.Is(err, backends.ErrInUse) || !strings.Contains(err.Error(), "rbd lock rm") {
		t.Errorf("got %v, want ErrInUse, and what to do", err)
	}
	if after := cephtest.Admin(t, "ceph", "osd", "blocklist", "ls"); after != before {
		t.Errorf("somebody was refused: %q, then %q", before, after)
	}
	identity.Facts = map[string]string{"address": "10.97.0.1:0/4294967295", "cluster": strings.Split(identity.Domain, "/")[2]}
	if err := p.Fence(t.Context(), victim(handle, identity)); err != nil {
		t.Errorf("fence while there is one: %v", err)
	}
	locks := cephtest.Admin(t, "rbd", "lock", "ls", "--format", "json", p.spec(handle))
	_, locker, _ := strings.Cut(locks, `"locker":"`)
	locker, _, _ = strings.Cut(locker, `"`)
	cephtest.Admin(t, "rbd", "lock", "rm", p.spec(handle), "mine", locker)
	target, _ := p.own(handle)
	p.write(target, "data")
	p.unmount(handle, target)
}
