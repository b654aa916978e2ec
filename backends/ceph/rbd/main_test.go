//go:build ceph && cgo

package rbd_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ceph/go-ceph/rados"
	ceph "github.com/ceph/go-ceph/rbd"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/backends/ceph/rbd"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/guesttest"
	"github.com/dvol/dvold/internal/host/hosttest"
)

func TestMain(m *testing.M) { cephtest.Main(m) }

// mapper is what the tests map images with: fuse, unless the kernel is one that can.
func mapper() string {
	if m := os.Getenv("RBD_TEST_MAPPER"); m != "" {
		return m
	}
	if guesttest.Inside() {
		return "krbd"
	}
	return "fuse"
}

// newNamespace makes a namespace of the pool rbd for the test: no other test's images
// are there.
func newNamespace(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("test-%08x", rand.Uint32())
	inCluster(t, func(pool *rados.IOContext) error { return ceph.NamespaceCreate(pool, name) })
	return name
}

// inCluster calls f with the pool rbd. The commands of Ceph's do as much, and take longer.
func inCluster(t *testing.T, f func(*rados.IOContext) error) {
	t.Helper()
	c := cephtest.Config(t, "host")
	conn, err := rados.NewConnWithUser(c.User)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Shutdown()
	for _, option := range [][2]string{{"mon_host", c.Monitors[0]}, {"keyring", c.Keyring}, {"log_file", ""}, {"admin_socket", ""}, {"client_mount_timeout", "30"}} {
		if err := conn.SetConfigOption(option[0], option[1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Connect(); err != nil {
		t.Fatal(err)
	}
	pool, err := conn.OpenIOContext("rbd")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Destroy()
	if err := f(pool); err != nil {
		t.Fatal(err)
	}
}

// pool is one in a namespace of its own, with what tests do with it.
type pool struct {
	*rbd.Pool
	t      *testing.T
	config rbd.Config
	run    string
}

func newPool(t *testing.T, change func(*rbd.Config)) *pool {
	return inNamespace(t, newNamespace(t), change)
}

// inNamespace is a pool of another host on the images of a namespace.
func inNamespace(t *testing.T, namespace string, change func(*rbd.Config)) *pool {
	t.Helper()
	c := rbd.DefaultConfig()
	c.Cluster = cephtest.Config(t, "host")
	c.Namespace, c.Mapper, c.Size = namespace, mapper(), 16<<20
	if change != nil {
		change(&c)
	}
	run := hosttest.Dir(t)
	return &pool{open(t, c, run), t, c, run}
}

// open opens a pool, whose mappings end with the test.
func open(t *testing.T, c rbd.Config, run string) *rbd.Pool {
	t.Helper()
	p, err := rbd.Open(c, "pool", run, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		endMappings(t, run)
	})
	return p
}

// endMappings ends what of rbd-fuse and loop devices is below a directory: at once, for what waits for a client that was
// fenced would hang whoever comes near.
func endMappings(t *testing.T, run string) {
	t.Helper()
	for _, pid := range clients(t, run) {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	mounts, err := host.Mounts()
	if err != nil {
		t.Error(err)
		return
	}
	for _, file := range loopFiles(t) {
		if !strings.HasPrefix(file.shows, run+"/") {
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat(file.device, &st); err != nil {
			t.Error(err)
			continue
		}
		for _, m := range mounts {
			if m.Major == int(unix.Major(st.Rdev)) && m.Minor == int(unix.Minor(st.Rdev)) {
				_ = unix.Unmount(m.Mountpoint, unix.MNT_DETACH)
			}
		}
		f, err := os.OpenFile(file.device, os.O_RDONLY, 0)
		if err != nil {
			t.Error(err)
			continue
		}
		_, _ = unix.IoctlRetInt(int(f.Fd()), unix.LOOP_CLR_FD)
		f.Close()
	}
	for _, m := range mounts {
		if m.FSType == "fuse.rbd-fuse" || strings.HasPrefix(m.FSType, "fuse") && strings.HasPrefix(m.Mountpoint, run+"/rbd/") {
			if strings.HasPrefix(m.Mountpoint, run+"/") {
				_ = unix.Unmount(m.Mountpoint, unix.MNT_DETACH)
			}
		}
	}
}

// loopFile is a loop device and the file that it shows.
type loopFile struct{ device, shows string }

func loopFiles(t *testing.T) (all []loopFile) {
	t.Helper()
	paths, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENXIO) || errors.Is(err, unix.ENODEV) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(path, "/sys/block/"), "/")
		all = append(all, loopFile{"/dev/" + name, strings.TrimSpace(string(text))})
	}
	return all
}

// id is that of a new volume.
func id(name string) string { return fmt.Sprintf("%s.%012x", name, rand.Uint64()>>16) }

// create makes a volume and returns its handle.
func (p *pool) create(name string) string {
	p.t.Helper()
	v := p.plan(backends.Request{ID: id(name)})
	if err := p.Create(p.t.Context(), v); err != nil {
		p.t.Fatal(err)
	}
	return v.Handle
}

func (p *pool) plan(r backends.Request) backends.Volume {
	p.t.Helper()
	v, err := p.Plan(p.t.Context(), r)
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

// connect connects to a volume, as its owner does, and returns by what it would be
// fenced.
func (p *pool) connect(handle string) backends.Identity {
	p.t.Helper()
	identity, err := p.Identity(p.t.Context(), handle)
	if err == nil {
		identity, err = p.Connect(p.t.Context(), handle, identity)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return identity
}

// mount mounts a volume and returns where.
func (p *pool) mount(handle string, o backends.MountOptions) string {
	p.t.Helper()
	target := hosttest.Subdir(p.t, p.run, "mnt-"+filepath.Base(handle))
	if err := p.Mount(p.t.Context(), handle, target, o); err != nil {
		p.t.Fatal(err)
	}
	return target
}

// own connects to a volume and mounts it.
func (p *pool) own(handle string) (target string, identity backends.Identity) {
	p.t.Helper()
	identity = p.connect(handle)
	return p.mount(handle, backends.MountOptions{Alone: true, Identity: &identity}), identity
}

func (p *pool) unmount(handle, target string) {
	p.t.Helper()
	if err := p.Unmount(p.t.Context(), handle, target); err != nil {
		p.t.Fatal(err)
	}
}

// write writes a file so that it is with the storage.
func write(target, text string) error {
	f, err := os.Create(filepath.Join(target, "file"))
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func (p *pool) write(target, text string) {
	p.t.Helper()
	if err := write(target, text); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pool) want(target, text string) {
	p.t.Helper()
	if got, err := os.ReadFile(filepath.Join(target, "file")); err != nil || string(got) != text {
		p.t.Errorf("got %q, %v, want %q", got, err, text)
	}
}

// mapped tells which files of loop devices the pool has.
func (p *pool) mapped() (all []string) {
	for _, f := range loopFiles(p.t) {
		if strings.HasPrefix(f.shows, p.run+"/") {
			all = append(all, f.device)
		}
	}
	return all
}

// clients are the processes of rbd-fuse that the pool has.
func (p *pool) clients() []int {
	p.t.Helper()
	return clients(p.t, p.run)
}

// killClients kills them.
func (p *pool) killClients() {
	p.t.Helper()
	for _, pid := range p.clients() {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			p.t.Fatal(err)
		}
	}
	for limit := time.Now().Add(10 * time.Second); len(p.clients()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			p.t.Fatalf("clients that were killed have not ended: %v", p.clients())
		}
	}
}

// clients are the processes of rbd-fuse below a directory.
func clients(t *testing.T, run string) (all []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		args := strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && args[0] == "rbd-fuse" && strings.HasPrefix(args[len(args)-1], run+"/") {
			all = append(all, pid)
		}
	}
	return all
}
