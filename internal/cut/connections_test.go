package cut_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/cut"
)

// successor mounts a storage that has the number of another, which it ends: the kernel gives
// a number that is free again to whatever is mounted next. The other was met by c before.
func successor(t *testing.T, c *cut.Cutter) (was cut.Volume, next storage) {
	t.Helper()
	for range 50 {
		s := newStorage(t)
		was = identified(t, cut.Volume{ID: "old-0123456789ab", Mountpoint: s.dir, Sole: true})
		left, err := c.Remains(t.Context(), was)
		if err != nil || !slices.Contains(left, "the mount at "+s.dir) {
			t.Fatalf("while it is mounted: %q, %v", left, err)
		}
		if err := unix.Unmount(s.dir, 0); err != nil {
			t.Fatal(err)
		}
		_ = s.server.Wait() // it has nothing to serve any more
		next = newStorage(t)
		now := identified(t, cut.Volume{ID: "new-0123456789ab", Mountpoint: next.dir})
		if now.Device == was.Device {
			return was, next
		}
	}
	t.Fatal("no file system got the number of one that was gone")
	return was, next
}

// A file system whose number another has by now is gone, for who met it while it was there, and
// the other is left alone. Who has not met it can't tell.
func TestNumberOfAConnectionIsAnothers(t *testing.T) {
	c := newCutter(t)
	was, next := successor(t, c)
	innocent := start(t, false, "write", filepath.Join(next.dir, "file"))
	left, err := c.Remains(t.Context(), was)
	if err != nil || len(left) > 0 {
		t.Errorf("left is %q, %v", left, err)
	}
	cutFails(t, newCutter(t), was, "may be another by now")

	was, another := successor(t, c)
	report := cutNow(t, c, was)
	if len(report.Killed)+len(report.ShutDown)+len(report.Unmounted) > 0 {
		t.Errorf("done was %+v", report)
	}
	for _, s := range []storage{next, another} {
		if !alive(t, s.server) {
			t.Error("another's server was killed")
		}
	}
	if growing(t, filepath.Join(next.dir, "file")); !alive(t, innocent) {
		t.Error("another's writer was killed")
	}
}

// What is mounted at the mountpoint is the volume's, also if it has the number of what was
// there before.
func TestNumberOfAConnectionIsTheVolumesAgain(t *testing.T) {
	c := newCutter(t)
	was, next := successor(t, c)
	was.Mountpoint = next.dir
	left, err := c.Remains(t.Context(), was)
	if err != nil || !slices.Contains(left, "the mount at "+next.dir) {
		t.Errorf("left is %q, %v", left, err)
	}
	kept := start(t, true, "bind-and-write", next.dir, t.TempDir())
	if err := unix.Unmount(next.dir, 0); err != nil {
		t.Fatal(err)
	}
	if left, err = c.Remains(t.Context(), was); err != nil || !strings.Contains(strings.Join(left, ", "), pid(kept)) {
		t.Errorf("left is %q, %v, and process %d has it", left, err, kept.Process.Pid)
	}
	cutNow(t, c, was)
	if !killed(t, kept) {
		t.Error("who has it lives")
	}
}
