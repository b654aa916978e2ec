package host_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

func TestUnmount(t *testing.T) {
	target := hosttest.Dir(t)
	for what, path := range map[string]string{
		"not mounted":    target,
		"missing":        filepath.Join(target, "a"),
		"missing parent": filepath.Join(target, "a", "b"),
	} {
		if err := host.Unmount(path); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestUnmountStacked(t *testing.T) {
	source, target := pair(t)
	for range 3 {
		if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := host.Unmount(target); err != nil {
		t.Fatal(err)
	}
	if m := mountedAt(t, target); m != nil {
		t.Errorf("got a mount of %s, want none", m.Root)
	}
	if got := read(t, filepath.Join(source, "file")); got != "data" {
		t.Errorf("got %q, want %q", got, "data")
	}
}

func TestUnmountBusy(t *testing.T) {
	source, target := pair(t)
	if err := host.BindMount(open(t, source), target, false); err != nil {
		t.Fatal(err)
	}
	f := open(t, filepath.Join(target, "file"))
	if err := host.Unmount(target); !errors.Is(err, host.ErrBusy) {
		t.Errorf("got %v, want %v", err, host.ErrBusy)
	}
	if mountedAt(t, target) == nil {
		t.Error("the busy mount is gone")
	}
	if err := host.RemoveMountpoint(target); !errors.Is(err, host.ErrBusy) {
		t.Errorf("remove mountpoint: got %v, want %v", err, host.ErrBusy)
	}
	f.Close()
	if err := host.Unmount(target); err != nil {
		t.Errorf("after the file was closed: %v", err)
	}
}

// What is let go within seconds does not keep a mount, and what is not does.
func TestUnmountSoon(t *testing.T) {
	source, target := pair(t)
	if err := host.BindMount(open(t, source), target, false); err != nil {
		t.Fatal(err)
	}
	f := open(t, filepath.Join(target, "file"))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := host.ClearMountpoint(ctx, target); !errors.Is(err, host.ErrBusy) || mountedAt(t, target) == nil {
		t.Errorf("while it is in use: got %v", err)
	}
	time.AfterFunc(200*time.Millisecond, func() { f.Close() })
	if err := host.ClearMountpoint(t.Context(), target); err != nil {
		t.Errorf("while it is let go: %v", err)
	}
	if _, err := os.Stat(target); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the mountpoint is there still: %v", err)
	}
	if err := host.ClearMountpoint(t.Context(), target); err != nil {
		t.Errorf("of what is not there: %v", err)
	}
}

// The table has the mount, but its path leads into the one above.
func TestUnmountHidden(t *testing.T) {
	source, target := pair(t)
	above := hosttest.Subdir(t, target, "above")
	if err := host.BindMount(open(t, source), above, false); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("upper", target, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := host.Unmount(above); err == nil {
		t.Error("got no error, though the mount is still there")
	}
	if err := host.Unmount(target); err != nil {
		t.Fatal(err)
	}
	if err := host.Unmount(above); err != nil {
		t.Error(err)
	}
}

func TestUnmountRefusesSymlinks(t *testing.T) {
	source, target := pair(t)
	if err := host.BindMount(open(t, source), target, false); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(hosttest.Dir(t), "link")
	if err := os.Symlink(filepath.Dir(target), link); err != nil {
		t.Fatal(err)
	}
	if err := host.Unmount(filepath.Join(link, "target")); !errors.Is(err, unix.ELOOP) {
		t.Errorf("got %v, want %v", err, unix.ELOOP)
	}
	if mountedAt(t, target) == nil {
		t.Error("the mount is gone")
	}
}

func TestRemoveMountpoint(t *testing.T) {
	dir := t.TempDir()
	empty, full := hosttest.Subdir(t, dir, "empty"), hosttest.Subdir(t, dir, "full")
	write(t, filepath.Join(full, "file"), "data")

	for range 2 {
		if err := host.RemoveMountpoint(empty); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(empty); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
	if err := host.RemoveMountpoint(full); !errors.Is(err, unix.ENOTEMPTY) {
		t.Errorf("got %v, want %v", err, unix.ENOTEMPTY)
	}
	if err := host.RemoveMountpoint(filepath.Join(full, "file")); err == nil {
		t.Error("a file: got no error")
	}
	if got := read(t, filepath.Join(full, "file")); got != "data" {
		t.Errorf("got %q, want %q", got, "data")
	}
}
