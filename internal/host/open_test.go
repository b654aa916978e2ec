package host_test

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

func TestOpenBeneath(t *testing.T) {
	top := t.TempDir()
	dir := hosttest.Subdir(t, top, "dir")
	hosttest.Subdir(t, dir, "a b/ü")
	write(t, filepath.Join(top, "outside"), "secret")
	write(t, filepath.Join(dir, "file"), "data")
	for link, to := range map[string]string{"absolute": "/etc", "up": "..", "beneath": "a b", "self": "/proc/self/fd/0"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	root := open(t, dir)
	tests := []struct {
		path  string
		flags int
		want  error
	}{
		{"a b/ü", unix.O_RDONLY | unix.O_DIRECTORY, nil},
		{"a b/ü", unix.O_PATH, nil},
		{".", unix.O_PATH, nil},
		{"file", unix.O_RDONLY | unix.O_DIRECTORY, unix.ENOTDIR},
		{"missing", unix.O_PATH, unix.ENOENT},
		{"../outside", unix.O_RDONLY, unix.EXDEV},
		{"a b/../../outside", unix.O_RDONLY, unix.EXDEV},
		{filepath.Join(top, "outside"), unix.O_RDONLY, unix.EXDEV},
		{"absolute", unix.O_PATH | unix.O_DIRECTORY, unix.ELOOP},
		{"absolute/passwd", unix.O_RDONLY, unix.ELOOP},
		{"up/outside", unix.O_RDONLY, unix.ELOOP},
		{"beneath/ü", unix.O_PATH, unix.ELOOP},
		{"self", unix.O_RDONLY, unix.ELOOP},
	}
	for _, test := range tests {
		f, err := host.OpenBeneath(root, test.path, test.flags, 0)
		if !errors.Is(err, test.want) {
			t.Errorf("open %s: got %v, want %v", test.path, err, test.want)
		}
		if err == nil {
			if want := filepath.Join(dir, test.path); f.Name() != want {
				t.Errorf("got name %s, want %s", f.Name(), want)
			}
			f.Close()
		}
	}
}

func TestOpenWithin(t *testing.T) {
	hosttest.Root(t)
	dir := hosttest.Dir(t)
	hosttest.Subdir(t, dir, "plain")
	mounted := hosttest.Subdir(t, dir, "mounted")
	if err := unix.Mount(dir, mounted, "", unix.MS_BIND, ""); err != nil { // same device
		t.Fatal(err)
	}
	root := open(t, dir)
	for path, want := range map[string]error{"plain": nil, "mounted": unix.EXDEV, "mounted/plain": unix.EXDEV} {
		f, err := host.OpenWithin(root, path, unix.O_PATH, 0)
		if !errors.Is(err, want) {
			t.Errorf("open %s: got %v, want %v", path, err, want)
		}
		if err == nil {
			f.Close()
		}
	}
}

// While somebody swaps a directory for a symbolic link, what is opened is
// never what the link leads to.
func TestOpenBeneathRace(t *testing.T) {
	top := t.TempDir()
	dir, outside := hosttest.Subdir(t, top, "dir"), hosttest.Subdir(t, top, "outside")
	hosttest.Subdir(t, dir, "a/b")
	hosttest.Subdir(t, outside, "b")
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	secret, err := os.Stat(filepath.Join(outside, "b"))
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		a, link := filepath.Join(dir, "a"), filepath.Join(dir, "link")
		for {
			select {
			case <-stop:
				return
			default:
				if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	defer swapper.Wait()
	defer close(stop)

	root := open(t, dir)
	opened, refused := 0, 0
	for opened+refused < 20_000 || opened == 0 || refused == 0 {
		f, err := host.OpenBeneath(root, "a/b", unix.O_PATH|unix.O_DIRECTORY, 0)
		if errors.Is(err, unix.ELOOP) {
			refused++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		opened++
		got, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if os.SameFile(got, secret) {
			t.Fatal("the symbolic link led out")
		}
		f.Close()
	}
}
