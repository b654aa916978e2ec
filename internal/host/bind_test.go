package host_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// pair returns a directory with a file in it and an empty one.
func pair(t *testing.T) (source, target string) {
	t.Helper()
	hosttest.Root(t)
	dir := hosttest.Dir(t)
	source, target = hosttest.Subdir(t, dir, "source"), hosttest.Subdir(t, dir, "target")
	write(t, filepath.Join(source, "file"), "data")
	return source, target
}

func TestBindMount(t *testing.T) {
	source, target := pair(t)
	if err := host.BindMount(open(t, source), target, false); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(target, "file")); got != "data" {
		t.Errorf("got %q, want %q", got, "data")
	}
	write(t, filepath.Join(target, "file"), "more")
	if got := read(t, filepath.Join(source, "file")); got != "more" {
		t.Errorf("written through the mount: got %q, want %q", got, "more")
	}
	if err := host.BindMount(open(t, source), target, false); err == nil {
		t.Error("a second mount at the same target: got no error")
	}
	if mounts, err := host.MountsBelow(target); err != nil || len(mounts) != 1 {
		t.Errorf("got %d mounts, %v, want 1", len(mounts), err)
	}
}

func TestBindMountReadOnly(t *testing.T) {
	source, target := pair(t)
	if err := host.BindMount(open(t, source), target, true); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(target, "file"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("write to the target: got %v, want %v", err, unix.EROFS)
	}
	write(t, filepath.Join(source, "file"), "still writable")
}

// A directory that was opened is mounted, wherever its path leads by then.
func TestBindMountAfterSymlinkSwap(t *testing.T) {
	source, target := pair(t)
	f := open(t, source)
	if err := os.Rename(source, source+".moved"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", source); err != nil {
		t.Fatal(err)
	}
	if err := host.BindMount(f, target, false); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(target, "file")); got != "data" {
		t.Errorf("got %q, want %q", got, "data")
	}
}

func TestBindMountRefusesSymlinks(t *testing.T) {
	source, target := pair(t)
	elsewhere := hosttest.Dir(t)
	last, inner := target+".last", target+".inner"
	for link, to := range map[string]string{last: elsewhere, inner: filepath.Dir(target)} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{last, filepath.Join(inner, "target"), target + ".missing"} {
		if err := host.BindMount(open(t, source), path, false); err == nil {
			t.Errorf("%s: got no error", path)
		}
	}
	for _, dir := range []string{elsewhere, filepath.Dir(target)} {
		if mounts, err := host.MountsBelow(dir); err != nil || len(mounts) != 0 {
			t.Errorf("got %d mounts below %s, %v, want none", len(mounts), dir, err)
		}
	}
}

// Both directories lie below a shared mount, as everything does under systemd.
func TestBindMountBelowSharedMount(t *testing.T) {
	hosttest.Root(t)
	shared := hosttest.Tmpfs(t, "")
	if err := unix.Mount("", shared, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	source, target := hosttest.Subdir(t, shared, "source"), hosttest.Subdir(t, shared, "target")
	inSource := hosttest.Subdir(t, source, "inner")

	peer := hosttest.Subdir(t, hosttest.Dir(t), "peer")
	if err := unix.Mount(shared, peer, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	if err := host.BindMount(open(t, source), target, false); err != nil {
		t.Fatal(err)
	}
	inPeer := filepath.Join(peer, "target")
	if mountedAt(t, inPeer) == nil {
		t.Errorf("the mount did not reach %s", inPeer)
	}
	if err := unix.Mount("later", inSource, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if m := mountedAt(t, filepath.Join(target, "inner")); m != nil {
		t.Error("what was mounted in the source later shows up in the target")
	}
	if err := host.Unmount(target); err != nil {
		t.Fatal(err)
	}
	if mountedAt(t, inPeer) != nil {
		t.Errorf("the mount stayed at %s", inPeer)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
