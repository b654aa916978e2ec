package local_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// newVolume returns a pool with one volume and the directory of that.
func newVolume(t *testing.T) (p *local.Pool, handle, dir string) {
	t.Helper()
	path := hosttest.Dir(t)
	p = openPool(t, local.Config{Path: path})
	v := plan(t, p, backends.Request{ID: id})
	create(t, p, v)
	return p, v.Handle, filepath.Join(path, v.Handle)
}

func TestRemoveOddTree(t *testing.T) {
	p, handle, dir := newVolume(t)
	outside := hosttest.Dir(t)
	mkdir(t, outside, "data", 0o755)
	for link, to := range map[string]string{"out": outside, "up": "../..", "dangling": "nowhere", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	mkdir(t, dir, "closed/inner", 0)
	mkdir(t, dir, "closed", 0)
	for i := range 2500 { // several batches
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	remove(t, p, handle)
	expectEntries(t, filepath.Dir(dir))
	expectEntries(t, outside, "data")
}

// A tree deeper than file descriptors and path names reach.
func TestRemoveDeepTree(t *testing.T) {
	p, handle, dir := newVolume(t)
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 5000 {
		if err := unix.Mkdirat(fd, "a long name for a directory", 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, "a long name for a directory", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
		fd = next
	}
	unix.Close(fd)

	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	few := limit
	few.Cur = 200
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}()
	remove(t, p, handle)
	expectEntries(t, filepath.Dir(dir))
}

func TestRemoveFinishesEarlierOne(t *testing.T) {
	for state, left := range map[string][]string{
		"moved":                {"volumes/" + id + ".gone/a/b"},
		"moved and made again": {"volumes/" + id + ".gone/a/b", "volumes/" + id + "/c/d"},
		"half made":            {"volumes/" + id + ".new"},
		"moved earlier":        {"work/" + id + "/a/b"},
		"half made earlier":    {"work/" + id + ".new", "volumes/" + id + "/c/d"},
		"nothing":              nil,
	} {
		t.Run(state, func(t *testing.T) {
			path := hosttest.Dir(t)
			for _, dir := range left {
				mkdir(t, path, dir, 0o755)
			}
			mkdir(t, path, "volumes/neighbour", 0o755)
			p := openPool(t, local.Config{Path: path})
			remove(t, p, "volumes/"+id)
			expectEntries(t, filepath.Join(path, "volumes"), "neighbour")
			if len(left) > 0 && strings.HasPrefix(left[0], "work") {
				expectEntries(t, filepath.Join(path, "work"))
			} else {
				expectEntries(t, path, "volumes")
			}
		})
	}
}

// Removal of a big volume ends soon after ctx does, and can be resumed.
func TestRemoveCancelled(t *testing.T) {
	p, handle, dir := newVolume(t)
	const files = 20_000
	for i := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	gone := dir + ".gone"
	go func() {
		defer cancel()
		for ctx.Err() == nil {
			if entries, err := os.ReadDir(gone); err == nil && len(entries) < files {
				return
			}
		}
	}()
	if err := p.Remove(ctx, handle); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if _, err := p.Stat(t.Context(), handle); !errors.Is(err, backends.ErrNotFound) {
		t.Errorf("stat: got %v, want %v", err, backends.ErrNotFound)
	}
	remove(t, p, handle)
	expectEntries(t, filepath.Dir(dir))
}

// What is mounted from a volume, or in it, keeps it from being removed.
func TestRemoveInUse(t *testing.T) {
	hosttest.Root(t)
	tests := []struct {
		name           string
		source, target string // empty source: a tmpfs; empty target: elsewhere
	}{
		{"a directory of it elsewhere", "inner", ""},
		{"a file of it elsewhere", "file", ""},
		{"a file system in it", "", "inner"},
		{"its own directory in it", "inner", "inner"},
		{"a file system over it", "", "."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, handle, dir := newVolume(t)
			mkdir(t, dir, "inner/data", 0o755)
			if err := os.WriteFile(filepath.Join(dir, "file"), []byte("data"), 0o600); err != nil {
				t.Fatal(err)
			}
			target := filepath.Join(dir, test.target)
			if test.target == "" {
				target = filepath.Join(hosttest.Dir(t), "file")
				if test.source == "file" {
					if err := os.WriteFile(target, nil, 0o600); err != nil {
						t.Fatal(err)
					}
				} else {
					mkdir(t, filepath.Dir(target), "file", 0o755)
				}
			}
			source, kind, flags := "dvold-test", "tmpfs", uintptr(0)
			if test.source != "" {
				source, kind, flags = filepath.Join(dir, test.source), "", unix.MS_BIND
			}
			if err := unix.Mount(source, target, kind, flags, ""); err != nil {
				t.Fatal(err)
			}
			if err := p.Remove(t.Context(), handle); !errors.Is(err, backends.ErrInUse) {
				t.Errorf("got %v, want %v", err, backends.ErrInUse)
			}
			if err := unix.Unmount(target, 0); err != nil {
				t.Fatal(err)
			}
			expectEntries(t, dir, "file", "inner")
			remove(t, p, handle)
		})
	}
}

func remove(t *testing.T, p *local.Pool, handle string) {
	t.Helper()
	if err := p.Remove(t.Context(), handle); err != nil {
		t.Fatal(err)
	}
}

// Two hosts that share the file system may delete one volume at once.
func TestRemoveByTwoHostsAtOnce(t *testing.T) {
	for range 10 {
		p, handle, dir := newVolume(t)
		other := openPool(t, local.Config{Path: filepath.Dir(filepath.Dir(dir))})
		for i := range 10 {
			mkdir(t, dir, fmt.Sprintf("d%d/inner", i), 0o755)
			for j := range 20 {
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("d%d/inner/%d", i, j)), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		var both sync.WaitGroup
		for _, host := range []*local.Pool{p, other} {
			both.Go(func() {
				if err := host.Remove(t.Context(), handle); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		expectEntries(t, filepath.Dir(dir))
	}
}
