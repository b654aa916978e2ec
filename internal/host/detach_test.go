package host_test

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

func TestMountRoot(t *testing.T) {
	source, target := pair(t)
	child := startChild(t, true, "bind", source, target)
	namespace := namespaceOf(t, child.Process.Pid)
	table, err := host.ReadMountTable(namespace)
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := table.At(target)
	if err != nil || len(mounts) != 1 {
		t.Fatalf("got %d mounts, %v", len(mounts), err)
	}
	root, err := host.MountRoot(namespace, mounts[0])
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if id, err := host.MountID(root); err != nil || id != mounts[0].ID {
		t.Errorf("got mount %d, %v, want %d", id, err, mounts[0].ID)
	}
	if _, err := host.MountRoot(nil, mounts[0]); !errors.Is(err, host.ErrHidden) {
		t.Errorf("in another namespace: got %v, want %v", err, host.ErrHidden)
	}
	err = host.InMountNamespace(namespace, func() error { return unix.Mount(source, target, "", unix.MS_BIND, "") })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := host.MountRoot(namespace, mounts[0]); !errors.Is(err, host.ErrHidden) {
		t.Errorf("below another: got %v, want %v", err, host.ErrHidden)
	}
}

// What is open through a detached copy does not keep the mount, and keeps the
// file system.
func TestOpenDetached(t *testing.T) {
	hosttest.Root(t)
	dir := hosttest.Tmpfs(t, "size=1m")
	write(t, filepath.Join(dir, "file"), "data")
	m := mountedAt(t, dir)
	f, err := host.OpenDetached(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Unmount(dir, 0); err != nil {
		t.Errorf("unmount: %v", err)
	}
	if names, err := f.Readdirnames(-1); err != nil || !slices.Equal(names, []string{"file"}) {
		t.Errorf("got %q, %v, want the file", names, err)
	}
	if _, err := host.OpenDetached(nil, m); !errors.Is(err, host.ErrHidden) {
		t.Errorf("after it was unmounted: got %v, want %v", err, host.ErrHidden)
	}
}
