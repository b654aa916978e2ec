//go:build ceph && cgo

package rbd_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/backendtest"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/backends/ceph/rbd"
)

// The kernel's client, in a guest that has one, and whose network is the cluster's.
func TestKernel(t *testing.T) {
	if inGuest(t) {
		t.Run("Fence", testKernelFence)
		t.Run("LateMap", testKernelLateMap)
		t.Run("FoundAgain", testKernelFoundAgain)
		t.Run("AfterFUSE", testKernelAfterFUSE)
	}
}

func TestKernelConformance(t *testing.T) {
	if inGuest(t) {
		backendtest.Run(t, fixture)
	}
}

// inGuest has a test run in a guest with the kernel's client, and tells whether this is one.
func inGuest(t *testing.T) bool {
	t.Helper()
	cephtest.Need(t)
	return cephtest.InGuest(t, []string{"drivers/block/rbd"})
}

// A kernel that was fenced says so of all that is asked of it, whatever was under way,
// and has the image again as another client; its other images go on. The lock is given
// to nobody who asks for it.
func testKernelFence(t *testing.T) {
	p := newPool(t, nil)
	handle, other := p.create("db"), p.create("other")
	target, identity := p.own(handle)
	kept, _ := p.own(other)
	p.write(target, "synced")
	p.write(kept, "synced")
	if err := p.Resize(t.Context(), handle, 32<<20); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("resize what has its lock kept: got %v", err)
	}
	next := inNamespace(t, p.config.Namespace, nil) // another host, but for its kernel
	if live, err := next.Unlock(t.Context(), handle); err != nil || len(live) != 1 || string(live[0]) != identity.Facts["address"] {
		t.Errorf("got lock of %q, %v, want %s", live, err, identity.Facts["address"])
	}
	begin := time.Now()
	if err := next.Fence(t.Context(), victim(handle, identity)); err != nil {
		t.Fatal(err)
	}
	t.Logf("fenced in %v", time.Since(begin))
	if live, err := next.Unlock(t.Context(), handle); err != nil || len(live) != 0 {
		t.Errorf("fenced, and the lock is that of %q, %v", live, err)
	}
	t.Logf("the old owner: %v", refused(t, target))
	p.write(kept, "kept")
	p.unmount(handle, target)
	target, again := p.own(handle)
	if again.Facts["address"] == identity.Facts["address"] {
		t.Errorf("connected as %s again", again.Facts["address"])
	}
	p.want(target, "synced")
	p.write(target, "again")
	p.unmount(handle, target)
	p.want(kept, "kept")
	p.unmount(other, kept)
}

// What a kernel maps when nobody waits for it any more, since the cluster is back, does not stay.
func testKernelLateMap(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("db")
	before := mappedEver(t)
	ip(t, "route", "add", "unreachable", p.config.Cluster.Monitors[0])
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := p.Attach(ctx, handle)
	ip(t, "route", "delete", "unreachable", p.config.Cluster.Monitors[0])
	if !errors.Is(err, backends.ErrUnavailable) {
		t.Fatalf("mapped without the cluster: %v", err)
	}
	for end := time.Now().Add(30 * time.Second); mappedEver(t) == before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the kernel does not map it")
		}
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		devices, err := os.ReadDir("/sys/bus/rbd/devices")
		if err != nil {
			t.Fatal(err)
		}
		if len(devices) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it stays mapped")
		}
	}
	target, _ := p.own(handle)
	p.write(target, "data")
	p.unmount(handle, target)
}

// What an earlier dvold has mapped is seen to, and nothing of another pool.
func testKernelFoundAgain(t *testing.T) {
	first := newPool(t, nil)
	other := newPool(t, nil)
	handle, others := first.create("db"), other.create("db")
	target, identity := first.own(handle)
	otherTarget, otherIdentity := other.own(others)
	p := first.reopen()
	p.wantKnown(handle, identity)
	time.Sleep(rbd.TendInterval) // another's would be known as soon
	if got := p.Known(others); got != "" {
		t.Errorf("another pool's is known as %s, and it is %s", got, otherIdentity.Facts["address"])
	}
	p.unmount(handle, target)
	other.unmount(others, otherTarget)
}

// A kernel that has got its client since does not take over what rbd-fuse serves, before that has ended.
func testKernelAfterFUSE(t *testing.T) {
	p := newPool(t, func(c *rbd.Config) { c.Mapper = "" })
	if !p.ByKernel() {
		t.Error("the kernel is not taken by default")
	}
	own, err := filepath.Glob(filepath.Join(p.run, "rbd/pool/*"))
	if err != nil || len(own) != 1 {
		t.Fatalf("got %q, %v", own, err)
	}
	serving := &exec.Cmd{Path: "/bin/sh", Args: []string{"rbd-fuse", "-c", "read line", filepath.Join(own[0], "image")}} // as it is seen
	stdin, err := serving.StdinPipe()
	if err == nil {
		err = serving.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if p = p.reopen(); p.ByKernel() {
		t.Error("the kernel is taken while rbd-fuse serves an image")
	}
	stdin.Close()
	_ = serving.Wait()
	if p = p.reopen(); !p.ByKernel() {
		t.Error("the kernel is not taken when rbd-fuse has ended")
	}
}

// mappedEver counts how often the kernel has said that it has mapped something. A device may be
// gone again before anybody sees it.
func mappedEver(t *testing.T) int {
	t.Helper()
	const readAll = 3 // SYSLOG_ACTION_READ_ALL, see syslog(2)
	log := make([]byte, 1<<20)
	n, err := unix.Klogctl(readAll, log)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(log[:n], []byte(": capacity "))
}

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}
