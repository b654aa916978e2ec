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

// onServed is a volume on a loop device that shows a file which a process serves, as
// an image of Ceph's that rbd-fuse shows, and the device.
func onServed(t *testing.T, s storage) (cut.Volume, *os.File) {
	t.Helper()
	_, err := exec.LookPath("mkfs.ext4")
	hosttest.Need(t, "mkfs.ext4", err == nil)
	image, err := os.Create(filepath.Join(s.dir, "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	if err := image.Truncate(16 << 20); err != nil {
		t.Fatal(err)
	}
	device := quotatest.Loop(t, image)
	t.Cleanup(func() { device.Close() })
	if out, err := exec.Command("mkfs.ext4", "-q", "-E", "nodiscard", device.Name()).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	target := hosttest.Subdir(t, hosttest.Dir(t), "mnt/db-0123456789ab")
	if err := unix.Mount(device.Name(), target, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	return identified(t, cut.Volume{ID: "db-0123456789ab", Mountpoint: target, Sole: true}), device
}

// What serves the disk of a volume may hang, or try for ever what its storage refuses:
// it is ended with the volume, whoever waits for it, and nothing of another.
func TestServedDisk(t *testing.T) {
	for name, hang := range map[string]bool{"well": false, "hangs": true, "hangs, and was looked for in vain": true} {
		t.Run(name, func(t *testing.T) {
			s, other := newStorage(t), newStorage(t)
			v, _ := onServed(t, s)
			if strings.HasSuffix(name, "in vain") {
				if err := os.Remove(filepath.Join(s.dir, "image")); err != nil {
					t.Fatal(err)
				}
			}
			file := filepath.Join(v.Mountpoint, "file")
			durable := start(t, false, "write-durably", file, filepath.Join(hosttest.Dir(t), "acknowledged"))
			growing(t, durable.Args[len(durable.Args)-1])
			if hang {
				s.hang(t)
				time.Sleep(100 * time.Millisecond) // for the writer to wait for it
			}
			report := cutNow(t, newCutter(t), v)
			ended := killed(t, s.server) || !hang && !alive(t, s.server) // who is well may end before that
			if !killed(t, durable) || !ended || len(report.ShutDown) == 0 {
				t.Errorf("writer killed: %t, server ended: %t, %+v", killed(t, durable), ended, report)
			}
			notMounted(t, v.Mountpoint)
			if err := os.WriteFile(filepath.Join(other.dir, "file"), []byte("x"), 0o600); err != nil || !alive(t, other.server) {
				t.Errorf("another storage does not go on: %v", err)
			}
		})
	}
}

// dvold died while it unmounted what hangs: then there is no mount any more to tell by.
func TestServedDiskUnmounting(t *testing.T) {
	s := newStorage(t)
	v, _ := onServed(t, s)
	if err := os.WriteFile(filepath.Join(v.Mountpoint, "file"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s.hang(t)
	unmounting := exec.Command("umount", v.Mountpoint)
	if err := unmounting.Start(); err != nil {
		t.Fatal(err)
	}
	within(t, "an umount that waits for the disk", func() bool {
		_, err := v.Identified()
		return err != nil
	})
	cutNow(t, newCutter(t), v)
	if err := unmounting.Wait(); err != nil {
		t.Errorf("umount: %v", err)
	}
	if !killed(t, s.server) {
		t.Error("what served the disk lives")
	}
}

// What is mounted where the process had the file, or shown by the device, may be
// another's by now: then it is left alone.
func TestServedDiskOfAnother(t *testing.T) {
	for name, change := range map[string]func(*cut.Behind){
		"another file system": func(b *cut.Behind) { b.Device = "0:1" },
		"another file":        func(b *cut.Behind) { b.File += "2" },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStorage(t)
			v, _ := onServed(t, s)
			if v.Behind == nil || v.Behind.File != filepath.Join(s.dir, "image") {
				t.Fatalf("got %+v behind it", v.Behind)
			}
			known := *v.Behind
			change(&known)
			v.Behind = &known
			cutNow(t, newCutter(t), v)
			if err := os.WriteFile(filepath.Join(s.dir, "file"), []byte("x"), 0o600); err != nil || !alive(t, s.server) {
				t.Errorf("the other's storage does not go on: %v", err)
			}
		})
	}
}

// A disk that others have too is not ended, and neither is what serves it.
func TestServedDiskOfOthers(t *testing.T) {
	s := newStorage(t)
	v, device := onServed(t, s)
	elsewhere := hosttest.Dir(t)
	if err := unix.Mount(device.Name(), elsewhere, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	cutNow(t, newCutter(t), v)
	if err := os.WriteFile(filepath.Join(elsewhere, "file"), []byte("x"), 0o600); err != nil || !alive(t, s.server) {
		t.Errorf("the others' storage does not go on: %v", err)
	}
}
