package cut_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/host/hosttest"
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

// connected is a storage whose server is connected with an address, and outlives its file
// system. The kernel must tell who serves it.
func connected(t *testing.T, address string) storage {
	t.Helper()
	s := storage{dir: hosttest.Subdir(t, hosttest.Dir(t), "storage")}
	s.server = start(t, false, "fuse-and-send", s.dir, address)
	files, err := filepath.Glob("/proc/" + pid(s.server) + "/fdinfo/*")
	if err != nil {
		t.Fatal(err)
	}
	hosttest.Need(t, "fuse_connection", slices.ContainsFunc(files, func(path string) bool {
		text, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(text), "fuse_connection:")
	}))
	return s
}

// A client may have to flush once its file system is unmounted. It serves nothing any more,
// though the kernel goes on naming it by a number that is another's by now.
func TestNumberOfAClientThatFlushes(t *testing.T) {
	if _, ok := newNetwork(t); !ok {
		return
	}
	met := newCutter(t)
	var flushes, next storage
	var was, now cut.Volume
	for n := 0; ; n++ {
		flushes = connected(t, serverAddress4)
		was = identified(t, cut.Volume{ID: "old-0123456789ab", Mountpoint: flushes.dir, Sole: true})
		remains(t, met, was)
		if err := unix.Unmount(flushes.dir, 0); err != nil {
			t.Fatal(err)
		}
		next = connected(t, serverAddress6)
		now = identified(t, cut.Volume{ID: "new-0123456789ab", Mountpoint: next.dir, Sole: true})
		if now.Device == was.Device {
			break
		}
		if n == 50 {
			t.Fatal("no file system got the number of one that was gone")
		}
	}
	// Nor is the network to the servers of who has the number now blocked for who had it.
	if report := cutNow(t, met, was); report.Blocked != "" || !alive(t, next.server) {
		t.Errorf("done was %+v", report)
	}
	holder := start(t, false, "open", filepath.Join(next.dir, "file"))
	c := newCutter(t)
	c.Protect = append(c.Protect, process(t, holder))
	cutFails(t, c, now, "process "+pid(holder))
	if !alive(t, flushes.server) {
		t.Error("who has to flush was killed")
	}
	if alive(t, next.server) {
		t.Error("who serves the file system lives")
	}
	if !reachable(serverAddress4) || reachable(serverAddress6) {
		t.Errorf("the server of the other can be reached: %t, that of the volume: %t", reachable(serverAddress4), reachable(serverAddress6))
	}
	end(t, holder)
	cutNow(t, c, now)
	if !alive(t, flushes.server) {
		t.Error("who has to flush was killed")
	}
}

// A guard that died in the midst of a cut may have aborted the connection: who served it is
// killed nevertheless.
func TestConnectionWasAborted(t *testing.T) {
	if _, ok := newNetwork(t); !ok {
		return
	}
	s := connected(t, serverAddress4)
	v := identified(t, cut.Volume{ID: "db-0123456789ab", Mountpoint: s.dir, Sole: true})
	control := hosttest.Dir(t)
	if err := unix.Mount("none", control, "fusectl", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(control, unix.MNT_DETACH)
	_, number, _ := strings.Cut(v.Device, ":")
	if err := os.WriteFile(filepath.Join(control, number, "abort"), []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	cutNow(t, newCutter(t), v)
	if !killed(t, s.server) {
		t.Error("who served it lives")
	}
}
