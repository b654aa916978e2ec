package nfs_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/nfs"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

const id = "db.0123456789ab"

// create makes a volume of the usual ID.
func create(t *testing.T, p *nfs.Pool, r backends.Request) backends.Volume {
	t.Helper()
	r.ID = id
	v, err := p.Plan(t.Context(), r)
	if err == nil {
		err = p.Create(t.Context(), v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mount(t *testing.T, p *nfs.Pool, handle string, o backends.MountOptions) (target string) {
	t.Helper()
	target = hosttest.Subdir(t, hosttest.Dir(t), id)
	if err := p.Mount(t.Context(), handle, target, o); err != nil {
		t.Fatal(err)
	}
	return target
}

func unmount(t *testing.T, p *nfs.Pool, handle, target string) {
	t.Helper()
	if err := p.Unmount(t.Context(), handle, target); err != nil {
		t.Fatal(err)
	}
}

func mountAt(t *testing.T, target string) (device int, options string) {
	t.Helper()
	m, err := host.MountedAt(target)
	if err != nil || m == nil {
		t.Fatalf("at %s: got %v, %v, want a mount", target, m, err)
	}
	return m.Minor, m.Options + "," + m.VFSOptions
}

func writeFile(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A volume leads its life in each version.
func testLife(t *testing.T, c nfs.Config) {
	p := openPool(t, hosttest.Dir(t), c)
	uid, gid := 1234, 5678
	v := create(t, p, backends.Request{UID: &uid, GID: &gid})
	for _, alone := range []bool{false, true} {
		target := mount(t, p, v.Handle, backends.MountOptions{Alone: alone})
		_, options := mountAt(t, target)
		want := []string{"vers=" + c.Version, "hard", "nosuid", "nodev", "sec=" + c.Sec}
		if c.Version == "" {
			want[0] = "vers=4.2"
		}
		if addr, err := netip.ParseAddr(c.Server); err == nil {
			want = append(want, "addr="+addr.String())
		}
		for _, option := range want {
			if !slices.Contains(strings.Split(options, ","), option) {
				t.Errorf("mounted with %s, want %s", options, option)
			}
		}
		writeFile(t, filepath.Join(target, "file"))
		if err := p.Remove(t.Context(), v.Handle); !errors.Is(err, backends.ErrInUse) {
			t.Errorf("remove what is mounted, alone %t: got %v", alone, err)
		}
		unmount(t, p, v.Handle, target)
	}
	if err := p.Remove(t.Context(), v.Handle); err != nil {
		t.Error(err)
	}
}

// What the server refuses is said in words.
func testRefused(t *testing.T, s server) {
	for name, test := range map[string]struct {
		change func(*nfs.Config)
		want   string
	}{
		"no such export":    {func(c *nfs.Config) { c.Export = "/nowhere" }, "the server has no /nowhere/"},
		"no such directory": {func(c *nfs.Config) { c.Subdir = "nowhere" }, "the server has no "},
		"version":           {func(c *nfs.Config) { c.Version = "4.0" }, "does not speak version 4.0"},
		"no server there":   {func(c *nfs.Config) { c.Server = "127.0.0.1"; c.Port = 9 }, "server 127.0.0.1 gives no answer"},
		"not NFS":           {func(c *nfs.Config) { c.Port = 111 }, "gives no answer: there is no such program"},
		"locks":             {func(c *nfs.Config) { c.Version = "3" }, "rpc.statd does not run on this host"},
	} {
		c := newPool(t, s.exported, "4.2")
		test.change(&c)
		wantRefused(t, name, c, test.want)
	}
}

// wantRefused checks that a pool is unavailable, for a reason, and says so in time.
func wantRefused(t *testing.T, name string, c nfs.Config, why string) {
	t.Helper()
	begin := time.Now()
	_, err := openPool(t, hosttest.Dir(t), c).Plan(t.Context(), backends.Request{ID: id})
	if !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "no_root_squash") {
		t.Errorf("%s: got %v, want %s", name, err, why)
	}
	took := time.Since(begin)
	if took > c.MountTimeout+5*time.Second {
		t.Errorf("%s: it took %v", name, took)
	}
	t.Logf("%s: after %v: %v", name, took.Round(time.Millisecond), err)
}

// Where root is nobody, volumes can't be made but in a directory of nobody's, for
// nobody.
func testRootSquash(t *testing.T, s server) {
	const nobody, other = 65534, 1000
	try := func(owner, uid int) error {
		c := newPool(t, s.squashed, "4.2")
		if err := os.Chown(filepath.Join(s.squashed, c.Subdir), owner, owner); err != nil {
			t.Fatal(err)
		}
		p := openPool(t, hosttest.Dir(t), c)
		v, err := p.Plan(t.Context(), backends.Request{ID: id, UID: &uid, GID: &uid})
		if err != nil {
			t.Fatal(err)
		}
		return p.Create(t.Context(), v)
	}
	for _, test := range []struct {
		owner, uid int
		want       error
	}{{0, 0, backends.ErrUnavailable}, {nobody, other, backends.ErrInvalid}, {nobody, 0, backends.ErrInvalid}, {nobody, nobody, nil}} {
		err := try(test.owner, test.uid)
		if !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), "with no_root_squash") {
			t.Errorf("a volume of %d in a directory of %d: got %v, want %v", test.uid, test.owner, err, test.want)
		}
	}
}

// Owners arrive as the numbers that they are.
func testOwner(t *testing.T, s server) {
	c := newPool(t, s.exported, "4.2")
	uid, gid, mode := 70000, 1, os.FileMode(0o750)|os.ModeSetgid
	v := create(t, openPool(t, hosttest.Dir(t), c), backends.Request{UID: &uid, GID: &gid, Mode: &mode})
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(s.exported, c.Subdir, v.Handle), &st); err != nil || st.Uid != 70000 || st.Gid != 1 || st.Mode&0o7777 != 0o2750 {
		t.Errorf("got %d, %d, %o, %v", st.Uid, st.Gid, st.Mode, err)
	}
}

// An exclusive volume has a file system of its own, which ends with it.
func testAlone(t *testing.T, s server) {
	run, c := hosttest.Dir(t), newPool(t, s.exported, "4.2")
	p := openPool(t, run, c)
	v := create(t, p, backends.Request{})
	common := mount(t, p, v.Handle, backends.MountOptions{})
	target := mount(t, p, v.Handle, backends.MountOptions{Alone: true})
	a, _ := mountAt(t, common)
	b, _ := mountAt(t, target)
	if a == b {
		t.Error("both are one file system")
	}
	same, err := host.Mounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range same {
		if m.Minor == b && m.Major == 0 && m.Mountpoint != target {
			t.Errorf("it is mounted at %s, too", m.Mountpoint)
		}
	}
	if servers, err := p.Servers(t.Context(), v.Handle, target); err != nil || !slices.Equal(servers, []netip.Addr{netip.MustParseAddr(address)}) {
		t.Errorf("got servers %v, %v", servers, err)
	}
	for readOnly, want := range map[bool]error{false: nil, true: backends.ErrInUse} {
		if err := p.Mount(t.Context(), v.Handle, target, backends.MountOptions{Alone: true, ReadOnly: readOnly}); !errors.Is(err, want) {
			t.Errorf("again, with read-only %t: got %v, want %v", readOnly, err, want)
		}
	}
	if err := p.Mount(t.Context(), v.Handle, common, backends.MountOptions{Alone: true}); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("over a shared mount: got %v", err)
	}
	writeFile(t, filepath.Join(target, "file"))
	unmount(t, p, v.Handle, target)
	if text, err := os.ReadFile(filepath.Join(s.exported, c.Subdir, v.Handle, "file")); err != nil || string(text) != "data" {
		t.Errorf("with the server: got %q, %v", text, err)
	}
	unmount(t, p, v.Handle, common)
}

// No symbolic link in the export leads an exclusive volume elsewhere.
func testPlanted(t *testing.T, s server) {
	c := newPool(t, s.exported, "4.2")
	p := openPool(t, hosttest.Dir(t), c)
	pool := filepath.Join(s.exported, c.Subdir)
	hosttest.Subdir(t, pool, "a/b")
	if err := os.Symlink("a", filepath.Join(pool, "link")); err != nil {
		t.Fatal(err)
	}
	target := hosttest.Subdir(t, hosttest.Dir(t), id)
	for handle, good := range map[string]bool{"link/b": false, "a/b": true} {
		if err := p.Mount(t.Context(), handle, target, backends.MountOptions{Alone: true}); (err == nil) != good {
			t.Errorf("mount of %s: got %v", handle, err)
		}
	}
	unmount(t, p, "a/b", target)
}

// While the server is silent calls fail soon, and leave no thread behind; when it
// is back all goes on.
func testHung(t *testing.T, s server) {
	c := newPool(t, s.exported, "4.2")
	c.MountTimeout = 5 * time.Second // a machine that is busy may take more than 2 s
	p := openPool(t, hosttest.Dir(t), c)
	v := create(t, p, backends.Request{})
	target := mount(t, p, v.Handle, backends.MountOptions{})
	thaw := s.freeze(t)
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(filepath.Join(target, "file"), []byte("data"), 0o600) }()
	another := hosttest.Subdir(t, hosttest.Dir(t), id)
	for what, call := range map[string]func() error{
		"stat":        func() error { _, err := p.Stat(t.Context(), v.Handle); return err },
		"mount":       func() error { return p.Mount(t.Context(), v.Handle, another, backends.MountOptions{}) },
		"mount alone": func() error { return p.Mount(t.Context(), v.Handle, another, backends.MountOptions{Alone: true}) },
	} {
		begin := time.Now()
		if err := call(); !errors.Is(err, backends.ErrUnavailable) || time.Since(begin) > 20*time.Second {
			t.Errorf("%s: got %v after %v", what, err, time.Since(begin))
		}
	}
	select {
	case err := <-written:
		t.Errorf("a write got an answer: %v", err)
	default:
	}
	thaw()
	if err := <-written; err != nil {
		t.Error(err)
	}
	if _, err := p.Stat(t.Context(), v.Handle); err != nil {
		t.Error(err)
	}
	unmount(t, p, v.Handle, target)
}

// The shared mount is found again after a restart, and goes when nobody uses it, whatever
// another pool on the export has mounted.
func testShared(t *testing.T, s server) {
	run, c := hosttest.Dir(t), newPool(t, s.exported, "4.2")
	c.MountGrace = 0
	p := openPool(t, run, c)
	v := create(t, p, backends.Request{})
	first := mount(t, p, v.Handle, backends.MountOptions{})
	p.Close()
	p = openPool(t, run, c)
	second := mount(t, p, v.Handle, backends.MountOptions{})
	a, _ := mountAt(t, first)
	if b, _ := mountAt(t, second); a != b {
		t.Error("it was mounted anew")
	}
	unmount(t, p, v.Handle, first)
	time.Sleep(2 * time.Second) // two rounds that must not take it away
	points := func() int { return sharedMounts(t, run) }
	if points() != 1 {
		t.Error("the shared mount went while a volume was mounted")
	}
	another := newPool(t, s.exported, "4.2")
	another.MountGrace = 0
	q := openNamed(t, run, "another", another)
	w := create(t, q, backends.Request{})
	third := mount(t, q, w.Handle, backends.MountOptions{})
	if points() != 2 {
		t.Errorf("there are %d shared mounts of two pools", points())
	}
	unmount(t, q, w.Handle, third)
	unmount(t, p, v.Handle, second)
	waitForShared(t, run, 0)
}

// What another configuration mounted serves what is bound out of it, and goes with that, whatever the
// mount that took its place serves.
func testChanged(t *testing.T, s server) {
	run, c := hosttest.Dir(t), newPool(t, s.exported, "4.2")
	p := openPool(t, run, c)
	v := create(t, p, backends.Request{})
	first := mount(t, p, v.Handle, backends.MountOptions{})
	p.Close()
	c.Options = append(c.Options, "rsize=65536")
	p = openPool(t, run, c)
	second := mount(t, p, v.Handle, backends.MountOptions{})
	time.Sleep(2 * time.Second)
	if got := sharedMounts(t, run); got != 2 {
		t.Fatalf("there are %d shared mounts, want one of each configuration", got)
	}
	unmount(t, p, v.Handle, first)
	waitForShared(t, run, 1)
	if err := os.WriteFile(filepath.Join(second, "file"), nil, 0o600); err != nil {
		t.Error(err)
	}
	unmount(t, p, v.Handle, second)
}

// sharedMounts is how many shared mounts there are.
func sharedMounts(t *testing.T, run string) int {
	t.Helper()
	entries, err := filepath.Glob(filepath.Join(run, "nfs", "*", "shared.*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func waitForShared(t *testing.T, run string, want int) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); sharedMounts(t, run) != want; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("there are %d shared mounts, want %d", sharedMounts(t, run), want)
		}
	}
}
