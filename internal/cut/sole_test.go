package cut_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/internal/host/quotatest"
)

// disk is a volume that has a file system of its own.
type disk struct {
	cut.Volume
	kind, device string
}

func newDisk(t *testing.T, kind string) disk {
	t.Helper()
	hosttest.Root(t)
	_, err := exec.LookPath("mkfs." + kind)
	hosttest.Need(t, "mkfs."+kind, err == nil)
	device := quotatest.Disk(t, "mkfs."+kind, "-q")
	target := hosttest.Subdir(t, hosttest.Dir(t), "mnt/db-0123456789ab")
	if err := unix.Mount(device, target, kind, 0, ""); err != nil {
		t.Fatal(err)
	}
	v := identified(t, cut.Volume{ID: "db-0123456789ab", Mountpoint: target, Sole: true})
	return disk{v, kind, device}
}

// eachKind runs a test for each kind of disk.
func eachKind(t *testing.T, fn func(t *testing.T, d disk)) {
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) { fn(t, newDisk(t, kind)) })
	}
}

// written is how many sectors of the device were written to; see the kernel's
// Documentation/block/stat.rst.
func (d disk) written(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/sys/block/" + filepath.Base(d.device) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))[6]
}

// What was made durable is there, what was not may be lost, and nothing is
// written any more.
func TestSole(t *testing.T) {
	eachKind(t, func(t *testing.T, d disk) {
		file := filepath.Join(d.Mountpoint, "durable")
		durable := start(t, false, "write-durably", file, filepath.Join(hosttest.Dir(t), "acknowledged"))
		acknowledged := durable.Args[len(durable.Args)-1]
		growing(t, acknowledged)
		lazy := start(t, true, "bind-and-write", d.Mountpoint, hosttest.Dir(t))
		// In the moment of the shutdown ext4 may acknowledge what it loses.
		want, err := os.ReadFile(acknowledged)
		if err != nil {
			t.Fatal(err)
		}
		report := cutNow(t, newCutter(t), d.Volume)
		before := d.written(t)
		if !killed(t, durable) || !killed(t, lazy) || len(report.Killed) != 2 {
			t.Errorf("killed %+v, want %d and %d", report.Killed, durable.Process.Pid, lazy.Process.Pid)
		}
		if len(report.ShutDown) != 1 || report.ShutDown[0] != d.Device {
			t.Errorf("shut down %q, want %q", report.ShutDown, d.Device)
		}
		notMounted(t, d.Mountpoint)
		time.Sleep(50 * time.Millisecond) // a writer would need one
		if after := d.written(t); after != before {
			t.Errorf("the device was written to after the cut: %s sectors, then %s", before, after)
		}

		quotatest.Remount(t, d.device, d.Mountpoint, d.kind, "") // replays the journal
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(got), string(want)) {
			t.Errorf("there are %d bytes, want at least the %d that were acknowledged before", len(got), len(want))
		}
	})
}

// A cut that was interrupted after the file system was shut down is gone on
// with.
func TestSoleAgain(t *testing.T) {
	eachKind(t, func(t *testing.T, d disk) {
		protected := start(t, false, "open", filepath.Join(d.Mountpoint, "file"))
		c := newCutter(t)
		c.Protect = append(c.Protect, process(t, protected))
		cutFails(t, c, d.Volume, "process "+pid(protected))
		cutNow(t, newCutter(t), d.Volume)
	})
}

// Where the container is the last that has the file system mounted, it is found
// by what is known of it.
func TestSoleUnmountedByDvold(t *testing.T) {
	eachKind(t, func(t *testing.T, d disk) {
		container := start(t, true, "bind-and-write", d.Mountpoint, hosttest.Dir(t))
		if err := unix.Unmount(d.Mountpoint, 0); err != nil {
			t.Fatal(err)
		}
		report := cutNow(t, newCutter(t), d.Volume)
		if !killed(t, container) || len(report.ShutDown) != 1 {
			t.Errorf("the container was not killed, or the file system not shut down: %+v", report)
		}
	})
}

// What keeps a file system may be nowhere to be seen: a descriptor that nobody
// has received yet.
func TestSoleKeptBySocket(t *testing.T) {
	eachKind(t, func(t *testing.T, d disk) {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pair[0])
		f, err := os.Create(filepath.Join(d.Mountpoint, "file"))
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Sendmsg(pair[0], []byte("file"), unix.UnixRights(int(f.Fd())), nil, 0); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if err := unix.Unmount(d.Mountpoint, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		cutFails(t, newCutter(t), d.Volume, "file system "+d.Device)
		unix.Close(pair[1]) // and the message goes
		cutNow(t, newCutter(t), d.Volume)
	})
}

// A file system that others use is not shut down, whatever dvold says.
func TestNotSole(t *testing.T) {
	eachKind(t, func(t *testing.T, d disk) {
		w := newWorld(t, d.Mountpoint)
		w.volume.Sole = true
		victim := start(t, false, "write", w.file("file"))
		innocent := start(t, false, "write", filepath.Join(w.neighbour, "file"))
		report := cutNow(t, newCutter(t), w.volume)
		if len(report.ShutDown) != 0 || !killed(t, victim) || !alive(t, innocent) {
			t.Errorf("victim killed: %t, neighbour alive: %t, %+v", killed(t, victim), alive(t, innocent), report)
		}
		growing(t, filepath.Join(w.neighbour, "file"))
	})
}

// The kernel may have given the number of the volume's file system to another.
func TestSoleWithANumberOfAnother(t *testing.T) {
	d := newDisk(t, "ext4")
	innocent := start(t, false, "write", filepath.Join(d.Mountpoint, "file"))
	stale := d.Volume
	stale.ID, stale.Mountpoint = "old-0123456789ab", hosttest.Dir(t)
	cutFails(t, newCutter(t), stale, "is mounted at "+d.Mountpoint)
	stale.Source = "/dev/another"
	stale.Sole = false
	cutNow(t, newCutter(t), stale) // which is seen to be gone
	growing(t, filepath.Join(d.Mountpoint, "file"))
	if !alive(t, innocent) {
		t.Error("the other volume's writer was killed")
	}
}
