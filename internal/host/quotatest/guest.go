// Package quotatest gives tests file systems with project quotas, on a kernel
// that has none too.
package quotatest

import (
	"errors"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host/guesttest"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// Elsewhere sees to it that a test has ext4 and XFS with project quotas. Where
// this kernel has both it returns false: go on. Where it has not, it runs the
// test again in a User-Mode Linux guest, has it fail if it fails there, and
// returns true: it is done. It is for a test of the top level.
func Elsewhere(t *testing.T) bool {
	t.Helper()
	hosttest.Root(t)
	for _, command := range []string{"mkfs.ext4", "mkfs.xfs"} {
		_, err := exec.LookPath(command)
		hosttest.Need(t, command, err == nil)
	}
	if guesttest.Inside() || supported(t) {
		return false
	}
	guesttest.Run(t, "fs/quota/quota_tree", "fs/quota/quota_v2", "drivers/block/loop")
	return true
}

// supported tells whether this kernel mounts what the tests need.
func supported(t *testing.T) bool {
	for kind, mkfs := range map[string][]string{"ext4": Ext4(), "xfs": XFS()} {
		dir := hosttest.Dir(t)
		err := unix.Mount(Disk(t, mkfs...), dir, kind, 0, "prjquota")
		if errors.Is(err, unix.EINVAL) {
			return false
		}
		if err != nil {
			t.Fatalf("mount %s: %v", kind, err)
		}
		if err := unix.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
	}
	return true
}

// Ext4 is the command that makes an ext4 with project quotas.
func Ext4() []string {
	return []string{"mkfs.ext4", "-q", "-O", "project,quota", "-E", "quotatype=prjquota"}
}

// XFS is the command that makes an XFS.
func XFS() []string {
	return []string{"mkfs.xfs", "-q"}
}
