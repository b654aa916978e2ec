//go:build ceph && cgo

package cephfs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/guesttest"
)

// guestSubdir is the directory that the pools of a guest lie in.
const guestSubdir = "DVOLD_GUEST_SUBDIR"

// guestGroup is the group of sub-volumes of guests.
const guestGroup = "guest"

// inGuest has a test run in a guest with the kernel's clients, and tells whether this is one.
func inGuest(t *testing.T, environment ...string) bool {
	t.Helper()
	if !guesttest.Inside() {
		need(t)
		newGroup(t, guestGroup)
		environment = append(environment, guestSubdir+"="+newSubdir(t))
	}
	return cephtest.InGuest(t, []string{"fs/netfs/netfs", "fs/ceph/ceph", "drivers/block/rbd"}, environment...)
}

func command(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

// kernelRoot is where all of the guest's directory is mounted.
func kernelRoot(t *testing.T) string {
	t.Helper()
	dir := "/tmp/root"
	mounted, err := host.IsMountpoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	if mounted {
		return dir
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cephtest.MountCephFS(t, os.Getenv(guestSubdir), dir)
	return dir
}

func kernelSubdir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(kernelRoot(t), "pool-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(os.Getenv(guestSubdir), filepath.Base(dir))
}

// there is where the guest's other client has a volume.
func (p *pool) there(handle string) string {
	return filepath.Join(kernelRoot(p.t), filepath.Base(p.subdir), handle)
}

// takeCable has the guest cut off from the cluster until the test has ended. It takes the way
// there, not the link: User-Mode Linux stood still twice, its processor busy, at about the time
// that the link went down.
func takeCable(t *testing.T) {
	t.Helper()
	cluster := os.Getenv("CEPH_CLUSTER")
	command(t, "ip", "route", "add", "unreachable", cluster)
	t.Cleanup(func() { command(t, "ip", "route", "delete", "unreachable", cluster) })
}
