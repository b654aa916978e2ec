package backendtest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

func testMount(t *testing.T, s *suite) {
	handle := s.create(t)
	target := s.mount(t, handle)
	write(t, target, "file", "data")
	if err := s.Mount(t.Context(), handle, target, backends.MountOptions{}); err != nil {
		t.Errorf("mount again: %v", err)
	}
	mounts, err := host.MountsBelow(target)
	if err != nil || len(mounts) != 1 {
		t.Errorf("got %d mounts, %v, want 1", len(mounts), err)
	}
	expectFile(t, target, "file", "data")
	s.unmount(t, handle, target)
	expectEmpty(t, target)
	expectFile(t, s.mount(t, handle), "file", "data")
}

func testMountTwoTargets(t *testing.T, s *suite) {
	handle := s.create(t)
	first, second := s.mount(t, handle), s.mount(t, handle)
	write(t, first, "file", "data")
	expectFile(t, second, "file", "data")
	s.unmount(t, handle, first)
	write(t, second, "file", "more")
	s.unmount(t, handle, second)
	expectFile(t, s.mount(t, handle), "file", "more")
}

func testMountReadOnly(t *testing.T, s *suite) {
	handle := s.create(t)
	target := s.mount(t, handle)
	write(t, target, "file", "data")
	readOnly := backends.MountOptions{ReadOnly: true}
	expectForUser(t, "mount read-only what is mounted writable", s.Mount(t.Context(), handle, target, readOnly), backends.ErrInUse)
	write(t, target, "file", "more")
	s.unmount(t, handle, target)

	for range 2 {
		if err := s.Mount(t.Context(), handle, target, readOnly); err != nil {
			t.Fatal(err)
		}
	}
	expectFile(t, target, "file", "more")
	for _, name := range []string{"file", "new"} {
		err := os.WriteFile(filepath.Join(target, name), nil, 0o600)
		expect(t, "write to "+name, err, unix.EROFS)
	}
	expect(t, "chmod", os.Chmod(target, 0o700), unix.EROFS)
	expectForUser(t, "mount writable what is mounted read-only", s.Mount(t.Context(), handle, target, backends.MountOptions{}), backends.ErrInUse)
	expect(t, "write then", os.WriteFile(filepath.Join(target, "file"), nil, 0o600), unix.EROFS)
	s.unmount(t, handle, target)
}

func testMountOverAnother(t *testing.T, s *suite) {
	handle, other := s.create(t), s.create(t)
	target := s.mount(t, other)
	write(t, target, "file", "data")
	expectForUser(t, "mount", s.Mount(t.Context(), handle, target, backends.MountOptions{}), backends.ErrInUse)
	expectFile(t, target, "file", "data")
}

func testMountWithoutTarget(t *testing.T, s *suite) {
	handle, target := s.create(t), filepath.Join(s.dir, "missing")
	if err := s.Mount(t.Context(), handle, target, backends.MountOptions{}); err == nil {
		t.Error("got no error")
	}
	if _, err := os.Lstat(target); !os.IsNotExist(err) {
		t.Errorf("something is at %s: %v", target, err)
	}
}

func testUnmountAgain(t *testing.T, s *suite) {
	handle := s.create(t)
	target := s.mount(t, handle)
	for range 2 {
		s.unmount(t, handle, target)
	}
	if err := os.Remove(target); err != nil {
		t.Fatal(err)
	}
	if err := s.Unmount(t.Context(), handle, target); err != nil {
		t.Errorf("missing directory: %v", err)
	}
}

func testUnmountBusy(t *testing.T, s *suite) {
	handle := s.create(t)
	target := s.mount(t, handle)
	write(t, target, "file", "data")

	f, err := os.Open(filepath.Join(target, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	expectForUser(t, "open file", s.Unmount(t.Context(), handle, target), backends.ErrInUse)
	f.Close()

	inside := exec.Command("cat")
	inside.Dir = target
	stdin, err := inside.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := inside.Start(); err != nil {
		t.Fatal(err)
	}
	expectForUser(t, "working directory", s.Unmount(t.Context(), handle, target), backends.ErrInUse)
	expectFile(t, target, "file", "data")
	if err := errors.Join(stdin.Close(), inside.Wait()); err != nil {
		t.Fatal(err)
	}
	s.unmount(t, handle, target)
}

// Links inside a volume lead nobody out who mounts or removes it.
func testPlantedSymlinks(t *testing.T, s *suite) {
	outside := hosttest.Dir(t)
	write(t, outside, "file", "data")
	handle := s.create(t)
	target := s.mount(t, handle)
	for name, to := range map[string]string{
		"absolute": outside,
		"file":     filepath.Join(outside, "file"),
		"up":       "..",
		"upper":    "../../..",
		"self":     ".",
	} {
		if err := os.Symlink(to, filepath.Join(target, name)); err != nil {
			t.Fatal(err)
		}
	}
	s.unmount(t, handle, target)

	for _, sub := range []string{"/absolute", "/up", "/..", "/../.."} {
		target := s.target(t)
		if err := s.Mount(t.Context(), handle+sub, target, backends.MountOptions{}); err == nil || mounted(t, target) {
			t.Errorf("mount of %s: got error %v, mounted %t", handle+sub, err, mounted(t, target))
		}
		_ = s.Remove(t.Context(), handle+sub) // whatever it says, see below
	}
	target = s.mount(t, handle)
	if to, err := os.Readlink(filepath.Join(target, "absolute")); err != nil || to != outside {
		t.Errorf("got link to %q, %v, want %q", to, err, outside)
	}
	s.unmount(t, handle, target)
	neighbour := s.create(t)
	if err := s.Remove(t.Context(), handle); err != nil {
		t.Fatal(err)
	}
	expectFile(t, outside, "file", "data")
	s.mount(t, neighbour)
}
