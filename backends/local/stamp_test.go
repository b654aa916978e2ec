package local_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// Only root can read a stamp or know of it, whatever the umask.
func TestStampModes(t *testing.T) {
	hosttest.Root(t) // a umask may hide a directory from its maker
	path := hosttest.Dir(t)
	p := openPool(t, local.Config{Path: path})
	mkdir(t, path, "stamps", 0o777)
	for _, mask := range []int{0, 0o777} {
		before := unix.Umask(mask)
		stamp(t, p, "text")
		unix.Umask(before)
		for name, want := range map[string]fs.FileMode{
			"stamps": fs.ModeDir | 0o700, "stamps/" + id + ".json": 0o600, "work": fs.ModeDir | 0o700,
		} {
			if info, err := os.Lstat(filepath.Join(path, name)); err != nil || info.Mode() != want {
				t.Errorf("umask %o: %s: got %v, %v, want %v", mask, name, info, err, want)
			}
		}
	}
	expectEntries(t, filepath.Join(path, "work"))
	expectEntries(t, path, "stamps", "work")
}

// A stamp that can't be read is an error, never none: none would let any epoch
// pass.
func TestDamagedStamps(t *testing.T) {
	for what, plant := range map[string]func(file string) error{
		"empty":     func(file string) error { return os.WriteFile(file, nil, 0o600) },
		"too large": func(file string) error { return os.WriteFile(file, make([]byte, backends.MaxDescription+1), 0o600) },
		"directory": func(file string) error { return os.Mkdir(file, 0o700) },
		"fifo":      func(file string) error { return unix.Mkfifo(file, 0o600) },
		"link":      func(file string) error { return os.Symlink("other", file) },
		"no target": func(file string) error { return os.Symlink("missing", file) },
	} {
		t.Run(what, func(t *testing.T) {
			path := hosttest.Dir(t)
			p := openPool(t, local.Config{Path: path})
			dir := hosttest.Subdir(t, path, "stamps")
			if err := os.WriteFile(filepath.Join(dir, "other"), []byte("text"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := plant(filepath.Join(dir, id+".json")); err != nil {
				t.Fatal(err)
			}
			if got, err := p.Stamped(t.Context(), id); err == nil || got != nil || !strings.Contains(err.Error(), id) {
				t.Errorf("got %.20q, %v, want an error that names the volume", got, err)
			}
		})
	}
}

// Links lead neither a writer nor a reader out, and a stamp takes the place of
// a link.
func TestStampSymlinks(t *testing.T) {
	for _, link := range []string{"stamps", "work", "stamps/" + id + ".json"} {
		t.Run(link, func(t *testing.T) {
			path, outside := hosttest.Dir(t), hosttest.Dir(t)
			secret := filepath.Join(outside, id+".json")
			if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
				t.Fatal(err)
			}
			to, last := outside, strings.HasSuffix(link, ".json")
			if last {
				mkdir(t, path, "stamps", 0o700)
				to = secret
			}
			if err := os.Symlink(to, filepath.Join(path, link)); err != nil {
				t.Fatal(err)
			}
			p := openPool(t, local.Config{Path: path})
			if got, err := p.Stamped(t.Context(), id); got != nil || (err == nil) != (link == "work") {
				t.Errorf("through a link: got %q, %v", got, err)
			}
			if err := p.Stamp(t.Context(), id, []byte("text")); (err == nil) != last {
				t.Errorf("stamp: got %v", err)
			}
			_ = p.Stamp(t.Context(), id, nil) // whatever it says
			expectEntries(t, outside, id+".json")
			if got, err := os.ReadFile(secret); err != nil || string(got) != "secret" {
				t.Errorf("outside: got %q, %v", got, err)
			}
		})
	}
}

func stamp(t *testing.T, p *local.Pool, text string) {
	t.Helper()
	if err := p.Stamp(t.Context(), id, []byte(text)); err != nil {
		t.Fatal(err)
	}
}
