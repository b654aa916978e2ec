package host_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

func TestMountedAt(t *testing.T) {
	hosttest.Root(t)
	target := hosttest.Subdir(t, hosttest.Dir(t), "a b\n\\040ü")

	if got := mountedAt(t, target); got != nil {
		t.Errorf("mount at a plain directory: got %v, want none", got.Source)
	}
	for _, source := range []string{"lower", "upper"} {
		if err := unix.Mount(source, target, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		if got := mountedAt(t, target); got == nil || got.Source != source {
			t.Errorf("after mounting %s: got %+v", source, got)
		}
	}
	if got := mountedAt(t, target+"/."); got == nil {
		t.Error("unclean path: got no mount")
	}
	if got := mountedAt(t, filepath.Join(target, "missing")); got != nil {
		t.Errorf("mount at a missing path: got %v, want none", got.Source)
	}
}

func TestMountsBelow(t *testing.T) {
	hosttest.Root(t)
	dir := hosttest.Dir(t)
	var want []string
	for _, name := range []string{"a", "a/b", "ab"} {
		target := hosttest.Subdir(t, dir, name)
		if err := unix.Mount("dvold-test", target, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		want = append(want, target)
	}
	for at, n := range map[string][]int{dir: {0, 1, 2}, want[0]: {0, 1}, want[1]: {1}, filepath.Join(dir, "none"): nil} {
		mounts, err := host.MountsBelow(at)
		if err != nil {
			t.Fatal(err)
		}
		var expected []string
		for _, i := range n {
			expected = append(expected, want[i])
		}
		if got := mountpoints(mounts); !slices.Equal(got, expected) {
			t.Errorf("mounts below %s: got %q, want %q", at, got, expected)
		}
	}
}

func TestSource(t *testing.T) {
	hosttest.Root(t)
	dir := hosttest.Tmpfs(t, "")
	pool := hosttest.Subdir(t, dir, "pool")
	volume := hosttest.Subdir(t, pool, "volume")
	deep := hosttest.Subdir(t, volume, "deep")
	hosttest.Subdir(t, pool, "volume2")
	targets := hosttest.Dir(t)
	bind := func(source, name string) string {
		target := hosttest.Subdir(t, targets, name)
		if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		return target
	}
	want := []string{bind(deep, "deep"), bind(volume, "volume")} // sorted
	bind(pool, "pool")
	bind(filepath.Join(pool, "volume2"), "volume2")

	// Whichever way the directory is reached, it is the same.
	for _, path := range []string{volume, filepath.Join(targets, "pool", "volume"), want[1]} {
		f := open(t, path)
		source, err := host.Source(f)
		if err != nil {
			t.Fatal(err)
		}
		if source.Root != "/pool/volume" || source.Mountpoint != path {
			t.Errorf("source of %s: got root %s at %s", path, source.Root, source.Mountpoint)
		}
		mounts, err := host.MountsOf(source)
		if err != nil {
			t.Fatal(err)
		}
		if got := mountpoints(mounts); !slices.Equal(got, want) {
			t.Errorf("mounts of %s: got %q, want %q", path, got, want)
		}
	}
}

func TestSourceOfRemovedDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f := open(t, dir)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := host.Source(f); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %v", err, fs.ErrNotExist)
	}
}

func TestIsMountRoot(t *testing.T) {
	hosttest.Root(t)
	dir := hosttest.Tmpfs(t, "")
	for path, want := range map[string]bool{dir: true, hosttest.Subdir(t, dir, "sub"): false} {
		if got, err := host.IsMountRoot(open(t, path)); err != nil || got != want {
			t.Errorf("%s: got %t, %v, want %t", path, got, err, want)
		}
	}
}

// A file system whose server never answers must not hold up anything.
func TestDeadFileSystemIsNotTouched(t *testing.T) {
	hosttest.Root(t)
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	hosttest.Need(t, "fuse", err == nil)
	defer fuse.Close() // wakes up whoever waits for an answer
	dead := hosttest.Subdir(t, hosttest.Dir(t), "dead")
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse.Fd())
	if err := unix.Mount("dead", dead, "fuse", 0, options); err != nil {
		t.Fatal(err)
	}
	within(t, "look", func() {
		m := mountedAt(t, dead)
		if m == nil {
			t.Error("the mount was not found")
			return
		}
		if _, err := host.OtherUsers(t.Context(), m); err != nil {
			t.Error(err)
		}
	})
	within(t, "unmount", func() {
		if err := host.Unmount(dead); err != nil {
			t.Error(err)
		}
	})
}

// within fails the test if f takes long.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
		t.Fatalf("%s hangs", what)
	}
}

func mountedAt(t *testing.T, target string) *mountinfo.Info {
	t.Helper()
	m, err := host.MountedAt(target)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mountpoints(mounts []*mountinfo.Info) []string {
	var targets []string
	for _, m := range mounts {
		targets = append(targets, m.Mountpoint)
	}
	slices.Sort(targets)
	return targets
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
