package cut_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/internal/host/quotatest"
)

// The kernel writes to the file of a loop device for whoever has that.
func TestLoopDevice(t *testing.T) {
	for name, opened := range map[string]func(t *testing.T, w world) string{
		"opened where dvold mounts it": func(_ *testing.T, w world) string { return w.file("disk") },
		"opened in the pool":           func(_ *testing.T, w world) string { return filepath.Join(w.source, "disk") },
		"opened in a container, which is killed": func(t *testing.T, w world) string {
			target := hosttest.Dir(t)
			container := start(t, true, "bind", w.source, target)
			return filepath.Join("/proc", pid(container), "root", target, "disk")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := onTmpfs(t)
			detach := attach(t, opened(t, w))
			defer detach()
			beside := attach(t, filepath.Join(w.neighbour, "disk"))
			defer beside()
			c := newCutter(t)
			cutFails(t, c, w.volume, "loop device loop")
			detach()
			cutNow(t, c, w.volume)
		})
	}
}

// A loop device that was given to another file meanwhile is not in the way any more.
func TestLoopDeviceOfAnotherFile(t *testing.T) {
	w := onTmpfs(t)
	device := loop(t, w.file("disk"))
	c := newCutter(t)
	cutFails(t, c, w.volume, "loop device loop")
	device.Close()
	other := filepath.Join(hosttest.Tmpfs(t, ""), "disk")
	for n := 0; ; n++ {
		next := loop(t, other)
		t.Cleanup(func() { next.Close() })
		if next.Name() == device.Name() {
			break
		}
		if n == 50 {
			t.Fatalf("nobody else gets %s", device.Name())
		}
		next.Close()
	}
	cutNow(t, c, w.volume)
}

// attach makes a loop device of a new file, which nobody has open then. It
// returns what takes that away.
func attach(t *testing.T, path string) (detach func()) {
	t.Helper()
	device := loop(t, path)
	return sync.OnceFunc(func() { device.Close() })
}

// loop is attach that returns the device, to be closed.
func loop(t *testing.T, path string) *os.File {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	return quotatest.Loop(t, file)
}
