package cephfs_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephfs"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// open opens a pool, whose clients end with the test.
func open(t *testing.T, run string, change func(*cephfs.Config)) *cephfs.Pool {
	t.Helper()
	p, err := cephfs.Open(config(t, run, change), "pool", run, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		endClients(t, run)
	})
	return p
}

// config is that of a pool in the tests' cluster.
func config(t *testing.T, run string, change func(*cephfs.Config)) cephfs.Config {
	c := cephfs.DefaultConfig()
	c.Cluster, c.FileSystem, c.LogDir = cephtest.Config(t, "files"), "cephfs", run
	if change != nil {
		change(&c)
	}
	return c
}

// endClients ends what clients the pool of a run directory has, and what is mounted
// of them.
func endClients(t *testing.T, run string) {
	t.Helper()
	dir := filepath.Join(run, "cephfs", "pool")
	running, err := cephfs.ClientsBelow(dir)
	if err != nil {
		t.Error(err)
	}
	mounts, err := host.MountsBelow(run)
	if err != nil {
		t.Error(err)
	}
	for _, m := range mounts {
		_ = unix.Unmount(m.Mountpoint, unix.MNT_DETACH)
	}
	for point, processes := range running {
		for _, p := range processes {
			endClient(t, filepath.Join(dir, point), p)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		for unix.Unmount(path, unix.MNT_DETACH) == nil {
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // a client takes its socket with it
			t.Error(err)
		}
	}
}

// endClient waits for the end of a client that serves nothing any more. One that can't
// end, for it lost the cluster, is killed, and with it its session, which others would
// wait for.
func endClient(t *testing.T, point string, p host.Process) {
	t.Helper()
	for limit := time.Now().Add(8 * time.Second); p.Alive(); time.Sleep(time.Millisecond) {
		if time.Now().Before(limit) {
			continue
		}
		if err := unix.Kill(p.PID, unix.SIGKILL); err != nil {
			t.Error(err)
		}
		cephtest.Admin(t, "ceph", "tell", "mds.cephfs:0", "session", "evict", "client_metadata.mount_point="+point)
		return
	}
}

// root is where a client of the tests has all of the file system mounted.
func root(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(os.Getenv("WORLD"), "cephfs")
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	mounted, err := host.IsMountpoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !mounted {
		if out, err := exec.Command("ceph-fuse", "--conf", os.Getenv("CEPH_ADMIN"), dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return dir
}

// newSubdir makes a directory of the file system for the test.
func newSubdir(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("pools/%08x", rand.Uint32())
	if err := os.MkdirAll(filepath.Join(root(t), name), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// pool is one in a directory of its own, with what tests do with it.
type pool struct {
	*cephfs.Pool
	t      *testing.T
	run    string
	subdir string
}

func newPool(t *testing.T, change func(*cephfs.Config)) *pool {
	need(t)
	run, subdir := hosttest.Dir(t), newSubdir(t)
	return &pool{t: t, run: run, subdir: subdir, Pool: open(t, run, func(c *cephfs.Config) {
		c.Subdir = subdir
		if change != nil {
			change(c)
		}
	})}
}

// create makes a volume and returns its handle.
func (p *pool) create(name string) string {
	p.t.Helper()
	v, err := p.Plan(p.t.Context(), backends.Request{ID: name + ".0123456789ab"})
	if err == nil {
		err = p.Create(p.t.Context(), v)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return v.Handle
}

// target is a directory to mount a volume at.
func (p *pool) target(handle string) string {
	p.t.Helper()
	return hosttest.Subdir(p.t, p.run, "mnt-"+filepath.Base(handle))
}

// mount mounts a volume and returns where.
func (p *pool) mount(handle string, o backends.MountOptions) string {
	p.t.Helper()
	target := p.target(handle)
	if err := p.Mount(p.t.Context(), handle, target, o); err != nil {
		p.t.Fatal(err)
	}
	return target
}

func (p *pool) write(target, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(target, "file"), []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pool) want(target, text string) {
	p.t.Helper()
	if got, err := os.ReadFile(filepath.Join(target, "file")); err != nil || string(got) != text {
		p.t.Fatalf("%s: got %q, %v, want %q", target, got, err, text)
	}
}

// wantClients fails unless that many clients of the pool run, and returns them.
func (p *pool) wantClients(n int) []host.Process {
	p.t.Helper()
	running, err := cephfs.ClientsBelow(filepath.Join(p.run, "cephfs", "pool"))
	if err != nil {
		p.t.Fatal(err)
	}
	var all []host.Process
	for _, processes := range running {
		all = append(all, processes...)
	}
	if len(all) != n {
		p.t.Fatalf("there are %d clients, want %d", len(all), n)
	}
	slices.SortFunc(all, func(a, b host.Process) int { return a.PID - b.PID })
	return all
}

func (p *pool) eventually(what string, ok func() bool) { p.t.Helper(); eventually(p.t, what, ok) }

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// TestMain runs the tests in a world with a Ceph cluster.
func TestMain(m *testing.M) { cephtest.Main(m) }

// need skips the test, or fails it where it is required, without Ceph.
func need(t *testing.T) {
	t.Helper()
	cephtest.Need(t)
	_, err := exec.LookPath("ceph-fuse")
	hosttest.Need(t, "ceph-fuse", err == nil)
}
