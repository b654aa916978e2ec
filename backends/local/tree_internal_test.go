package local

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// Even a mount that came after all checks is not entered.
func TestRemoveTreeStopsAtMounts(t *testing.T) {
	hosttest.Root(t)
	top, outside := hosttest.Dir(t), hosttest.Dir(t)
	if err := os.WriteFile(filepath.Join(outside, "file"), []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tree", "tree/a/b"} {
		target := hosttest.Subdir(t, top, name)
		if err := unix.Mount(outside, target, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		parent, err := os.Open(top)
		if err != nil {
			t.Fatal(err)
		}
		if err := removeTree(t.Context(), parent, "tree"); !errors.Is(err, backends.ErrInUse) {
			t.Errorf("mount at %s: got %v, want %v", name, err, backends.ErrInUse)
		}
		parent.Close()
		if _, err := os.Lstat(filepath.Join(outside, "file")); err != nil {
			t.Fatalf("mount at %s: data is lost: %v", name, err)
		}
		if err := unix.Unmount(target, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// The names that moveUp would like to use may be taken.
func TestMoveUp(t *testing.T) {
	dir := t.TempDir()
	for _, sub := range []string{"moved.1/full", "a/b/c"} {
		hosttest.Subdir(t, dir, sub)
	}
	if err := os.WriteFile(filepath.Join(dir, "moved.2"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	top, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	a, err := os.Open(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := (&tree{top: top}).moveUp(a, "b"); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"moved.1/full", "moved.2", "moved.3/c"} {
		if _, err := os.Lstat(filepath.Join(dir, path)); err != nil {
			t.Error(err)
		}
	}
}

func TestClassify(t *testing.T) {
	for err, want := range map[error]error{
		unix.ENOSPC:             backends.ErrNoSpace,
		unix.EDQUOT:             backends.ErrNoSpace,
		unix.EIO:                backends.ErrUnavailable,
		unix.ESTALE:             backends.ErrUnavailable,
		unix.ENOTCONN:           backends.ErrUnavailable,
		unix.ETIMEDOUT:          backends.ErrUnavailable,
		unix.EROFS:              backends.ErrUnavailable,
		unix.EBUSY:              backends.ErrInUse,
		backends.ErrUnavailable: backends.ErrUnavailable,
	} {
		got := classify(&os.PathError{Op: "open", Path: "/pool/x", Err: err})
		if !errors.Is(got, want) || !errors.Is(got, err) {
			t.Errorf("%v: got %v, want it to be %v", err, got, want)
		}
	}
	if err := errors.New("other"); classify(err) != err {
		t.Errorf("got %v, want it unchanged", classify(err))
	}
}
