package host_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// A device goes on showing a file that is deleted, and is found by where it was.
func TestBackingFile(t *testing.T) {
	hosttest.Root(t)
	path := filepath.Join(hosttest.Dir(t), "disk")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	device, err := exec.Command("losetup", "--find", "--show", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimSpace(string(device))
	detach := func() error { return exec.Command("losetup", "--detach", name).Run() }
	defer func() {
		if err := detach(); err != nil {
			t.Error(err)
		}
		if got, err := host.BackingFile(filepath.Join("/sys/block", filepath.Base(name))); err == nil {
			t.Errorf("a device that shows nothing: got %q", got)
		}
	}()
	for _, remove := range []bool{false, true} {
		if remove {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := host.BackingFile(filepath.Join("/sys/block", filepath.Base(name))); got != path || err != nil {
			t.Errorf("deleted %t: got %q, %v, want %q", remove, got, err, path)
		}
	}
}
