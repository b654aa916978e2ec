package local_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/backendtest"
	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

const id = "db.0123456789ab"

func TestBackend(t *testing.T) {
	for name, dir := range map[string]func(testing.TB) string{
		"Directory":  hosttest.Dir,
		"FileSystem": func(t testing.TB) string { return hosttest.Tmpfs(t, "") },
	} {
		t.Run(name, func(t *testing.T) {
			backendtest.Run(t, func(t *testing.T) backendtest.Fixture {
				path := dir(t)
				return backendtest.Fixture{
					Open: func(t *testing.T) backends.Backend {
						return openPool(t, local.Config{Path: path, RequireMount: name == "FileSystem"})
					},
					Adopt: func(t *testing.T) string {
						hosttest.Subdir(t, path, "old data/größe")
						return "old data/größe"
					},
					Sizes: limits(t, path),
					TakeAway: func(t *testing.T) {
						if name == "FileSystem" {
							unmount(t, path)
						} else {
							moveAway(t, path)
						}
					},
				}
			})
		})
	}
}

// moveAway renames a pool's directory until the test ends.
func moveAway(t *testing.T, path string) {
	t.Helper()
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Rename(path+".away", path); err != nil {
			t.Error(err)
		}
	})
}

func unmount(t *testing.T, path string) {
	t.Helper()
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
}

// limits tells whether the directory is one whose volumes can have a size.
func limits(t *testing.T, path string) bool {
	t.Helper()
	state, err := host.ProjectQuotas(openDir(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return state == host.QuotaEnforced
}

func TestValidate(t *testing.T) {
	if err := local.DefaultConfig().Validate(); err != nil {
		t.Errorf("default: %v", err)
	}
	for _, path := range []string{"", "pool", "./pool", "/", "/pool/.."} {
		if err := (local.Config{Path: path}).Validate(); err == nil {
			t.Errorf("path %q: got no error", path)
		}
		if _, err := local.Open(local.Config{Path: path}, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("open %q: got no error", path)
		}
	}
}

// Open leaves the storage alone, which may hang; a plan makes the directory. To
// whatever else is done, that it is missing means that the storage is: nothing is made or
// forgotten then.
func TestPlanMakesDirectory(t *testing.T) {
	hosttest.Root(t)
	path := filepath.Join(t.TempDir(), "a", "pool")
	p := openPool(t, local.Config{Path: path})
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Open: got %v", err)
	}
	v := plan(t, p, backends.Request{ID: id})
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("after Plan: got %v, %v", info, err)
	}
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	_, statErr := p.Stat(t.Context(), v.Handle)
	for what, err := range map[string]error{"create": p.Create(t.Context(), v), "stat": statErr, "remove": p.Remove(t.Context(), v.Handle)} {
		if !errors.Is(err, backends.ErrUnavailable) {
			t.Errorf("%s without the directory: got %v, want %v", what, err, backends.ErrUnavailable)
		}
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	create(t, p, v)
}

// While the file system is missing nothing is made in its place, and once it
// is there it is used, without opening the pool again.
func TestRequireMount(t *testing.T) {
	hosttest.Root(t)
	path := filepath.Join(hosttest.Dir(t), "pool")
	p := openPool(t, local.Config{Path: path, RequireMount: true})
	v := backends.Volume{Handle: "volumes/" + id}
	check := func(state string) {
		t.Helper()
		_, planErr := p.Plan(t.Context(), backends.Request{ID: id})
		_, statErr := p.Stat(t.Context(), v.Handle)
		for what, err := range map[string]error{
			"plan":   planErr,
			"create": p.Create(t.Context(), v),
			"stat":   statErr,
			"mount":  p.Mount(t.Context(), v.Handle, hosttest.Dir(t), backends.MountOptions{}),
			"remove": p.Remove(t.Context(), v.Handle),
		} {
			if !errors.Is(err, backends.ErrUnavailable) {
				t.Errorf("%s, %s: got %v, want %v", state, what, err, backends.ErrUnavailable)
			}
		}
	}
	check("missing")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	check("not mounted")
	expectEntries(t, path)
	if err := unix.Mount("dvold-test", path, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	create(t, p, v)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	check("unmounted")
	expectEntries(t, path)
}

func TestPlanInvalid(t *testing.T) {
	path := hosttest.Dir(t)
	p := openPool(t, local.Config{Path: path})
	create(t, p, plan(t, p, backends.Request{ID: id}))
	hosttest.Subdir(t, path, "data/sub")
	outside := hosttest.Dir(t)
	for link, to := range map[string]string{"link": outside, "data/link": "sub"} {
		if err := os.Symlink(to, filepath.Join(path, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(path, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, adopt := range []string{
		".", "/", path, "..", "../x", "data/..", "data/../data", "./data", "data/", "data//sub", "/data", "a\x00b", "\xff",
		"volumes", "volumes/" + id, "Volumes/" + id, "volumes/..", "work", "work/x", "WORK", "descriptions", "descriptions/x", "Descriptions",
		"stamps", "stamps/x", "STAMPS",
		"link", "link/x", "data/link", "file", "file/x",
	} {
		expectPlanError(t, p, backends.Request{ID: id, Adopt: adopt}, backends.ErrInvalid)
	}
	expectPlanError(t, p, backends.Request{ID: id, Adopt: "data/missing"}, backends.ErrNotFound)
	expectPlanError(t, p, backends.Request{ID: id, Size: 1 << 30}, backends.ErrInvalid)
	for _, bad := range []string{"", ".", "..", "a/b", "/a", "a\x00b", "a.new", "../" + id} {
		expectPlanError(t, p, backends.Request{ID: bad}, backends.ErrInvalid)
	}
	for _, n := range []int{-1, 1<<32 - 1, 1 << 32} {
		expectPlanError(t, p, backends.Request{ID: id, UID: &n}, backends.ErrInvalid)
		expectPlanError(t, p, backends.Request{ID: id, GID: &n}, backends.ErrInvalid)
	}
	for _, mode := range []fs.FileMode{fs.ModeSetuid | 0o755, fs.ModeDir | 0o755, fs.ModeSymlink} {
		expectPlanError(t, p, backends.Request{ID: id, Mode: &mode}, backends.ErrInvalid)
	}
}

// An adopted directory may not be a mount, which may be missing next time.
func TestAdoptMount(t *testing.T) {
	hosttest.Root(t)
	path := hosttest.Dir(t)
	if err := unix.Mount("dvold-test", hosttest.Subdir(t, path, "mounted"), "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	p := openPool(t, local.Config{Path: path})
	expectPlanError(t, p, backends.Request{ID: id, Adopt: "mounted"}, backends.ErrInvalid)
}

func TestForeignHandles(t *testing.T) {
	path := hosttest.Dir(t)
	p := openPool(t, local.Config{Path: path})
	create(t, p, plan(t, p, backends.Request{ID: id}))
	for _, handle := range []string{"", ".", "..", "/", "volumes", "volumes/", "volumes/..", "volumes/" + id + "/..", "volumes/" + id + "/x", "work/" + id, "work", "descriptions", "descriptions/" + id + ".json", "stamps", "stamps/" + id + ".json", "/etc", "../x"} {
		_, err := p.Stat(t.Context(), handle)
		for what, err := range map[string]error{
			"stat":   err,
			"create": p.Create(t.Context(), backends.Volume{Handle: handle}),
			"adopt":  p.Create(t.Context(), backends.Volume{Handle: handle, Adopted: true}),
			"mount":  p.Mount(t.Context(), handle, hosttest.Dir(t), backends.MountOptions{}),
			"remove": p.Remove(t.Context(), handle),
		} {
			if !errors.Is(err, backends.ErrInvalid) {
				t.Errorf("%s %q: got %v, want %v", what, handle, err, backends.ErrInvalid)
			}
		}
	}
	expectEntries(t, filepath.Join(path, "volumes"), id)
}

// Wherever Create is cut off, the next call completes it.
func TestCreateAfterCrash(t *testing.T) {
	hosttest.Root(t)
	uid, mode := 1234, fs.FileMode(0o750)
	for state, prepare := range map[string]func(t *testing.T, path string){
		"volumes made":   func(t *testing.T, path string) { mkdir(t, path, "volumes", 0o700) },
		"directory made": func(t *testing.T, path string) { mkdir(t, path, "volumes/"+id+".new", 0o700) },
		"owner set": func(t *testing.T, path string) {
			mkdir(t, path, "volumes/"+id+".new", 0o700)
			if err := os.Chown(filepath.Join(path, "volumes", id+".new"), 99, 99); err != nil {
				t.Fatal(err)
			}
		},
		"mode set": func(t *testing.T, path string) { mkdir(t, path, "volumes/"+id+".new", 0o001) },
	} {
		t.Run(state, func(t *testing.T) {
			path := hosttest.Dir(t)
			prepare(t, path)
			p := openPool(t, local.Config{Path: path})
			create(t, p, plan(t, p, backends.Request{ID: id, UID: &uid, Mode: &mode}))
			for name, want := range map[string]fs.FileMode{"volumes": 0o711, "volumes/" + id: mode} {
				info, err := os.Lstat(filepath.Join(path, name))
				if err != nil || info.Mode() != fs.ModeDir|want {
					t.Errorf("%s: got %v, %v, want %v", name, info, err, want)
				}
			}
			var st unix.Stat_t
			if err := unix.Stat(filepath.Join(path, "volumes", id), &st); err != nil || st.Uid != 1234 || st.Gid != 0 {
				t.Errorf("got owner %d:%d, %v", st.Uid, st.Gid, err)
			}
			expectEntries(t, filepath.Join(path, "volumes"), id)
		})
	}
}

func TestPoolFull(t *testing.T) {
	hosttest.Root(t)
	path := hosttest.Tmpfs(t, "nr_inodes=3") // the root, volumes and one more
	p := openPool(t, local.Config{Path: path})
	create(t, p, plan(t, p, backends.Request{ID: id}))
	err := p.Create(t.Context(), plan(t, p, backends.Request{ID: "other.0123456789ab"}))
	if !errors.Is(err, backends.ErrNoSpace) {
		t.Errorf("got %v, want %v", err, backends.ErrNoSpace)
	}
	if err := p.Remove(t.Context(), "volumes/"+id); err != nil {
		t.Errorf("remove from a full pool: %v", err)
	}
}

// A directory of the pool replaced by a link leads nobody out.
func TestPoolSymlinks(t *testing.T) {
	for _, link := range []string{"volumes", "work"} {
		t.Run(link, func(t *testing.T) {
			path, outside := hosttest.Dir(t), hosttest.Dir(t)
			mkdir(t, outside, id, 0o755)
			mkdir(t, outside, id+"/data", 0o755)
			if err := os.Symlink(outside, filepath.Join(path, link)); err != nil {
				t.Fatal(err)
			}
			p := openPool(t, local.Config{Path: path})
			v := plan(t, p, backends.Request{ID: id})
			for what, err := range map[string]error{
				"create": p.Create(t.Context(), v),
				"mount":  p.Mount(t.Context(), v.Handle, hosttest.Dir(t), backends.MountOptions{}),
				"remove": p.Remove(t.Context(), v.Handle),
			} {
				if touches := link == "volumes" || what == "remove"; touches != (err != nil) {
					t.Errorf("%s: got %v", what, err)
				}
			}
			expectEntries(t, outside, id)
			expectEntries(t, filepath.Join(outside, id), "data")
		})
	}
}

// On a pool that became read-only so does every mount, and a repeated call
// does not take that for another's mount.
func TestMountFromReadOnlyPool(t *testing.T) {
	hosttest.Root(t)
	path, target := hosttest.Tmpfs(t, ""), hosttest.Dir(t)
	p := openPool(t, local.Config{Path: path})
	v := plan(t, p, backends.Request{ID: id})
	create(t, p, v)
	if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.Mount(t.Context(), v.Handle, target, backends.MountOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func openPool(t *testing.T, c local.Config) *local.Pool {
	t.Helper()
	p, err := local.Open(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func plan(t *testing.T, p *local.Pool, r backends.Request) backends.Volume {
	t.Helper()
	v, err := p.Plan(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func create(t *testing.T, p *local.Pool, v backends.Volume) {
	t.Helper()
	hosttest.Root(t) // it sets owners
	if err := p.Create(t.Context(), v); err != nil {
		t.Fatal(err)
	}
}

func expectPlanError(t *testing.T, p *local.Pool, r backends.Request, want error) {
	t.Helper()
	if _, err := p.Plan(t.Context(), r); !errors.Is(err, want) {
		t.Errorf("plan %+v: got %v, want %v", r, err, want)
	}
}

func mkdir(t *testing.T, parent, name string, mode fs.FileMode) {
	t.Helper()
	dir := hosttest.Subdir(t, parent, name)
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
}

func expectEntries(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if len(got) != len(want) {
		t.Errorf("%s: got %q, want %q", dir, got, want)
		return
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s: got %q, want %q", dir, got, want)
		}
	}
}
