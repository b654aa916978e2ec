package fuseclient_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/fuseclient"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// TestMain runs the tests in a world of its own: what copies this mount namespace, as other
// tests do, would keep a client from ending that has nothing mounted any more.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv("WORLD") != "" {
		os.Exit(m.Run())
	}
	os.Exit(hosttest.InWorld(""))
}

// directory is a file system whose client is glusterfs(8), which shows a directory of this
// machine: there are no servers.
type directory struct {
	volfile, log string
	started      atomic.Int64
	args         func(context.Context) error // what Args does besides; or nil
}

func (d *directory) Args(ctx context.Context) ([]string, error) {
	d.started.Add(1)
	if d.args != nil {
		if err := d.args(ctx); err != nil {
			return nil, err
		}
	}
	return []string{"--no-daemon", "--volfile=" + d.volfile, "--log-file=" + d.log}, nil
}

func (d *directory) Cause(string) error { return nil }

// script is the text of a sh(1) that is no client, and is given the mountpoint as $0.
type script string

func (s script) Args(context.Context) ([]string, error) { return []string{"-c", string(s)}, nil }
func (s script) Cause(string) error                     { return nil }

// world is a directory as a file system, and clients of it.
type world struct {
	*testing.T
	*fuseclient.Clients
	fs     *directory
	spec   fuseclient.Spec
	config fuseclient.Config
	data   string
	db     string // the name of a directory in it, which no other test has
}

func newWorld(t *testing.T) *world {
	t.Helper()
	hosttest.Root(t)
	t.Parallel()
	_, err := exec.LookPath("glusterfs")
	hosttest.Need(t, "gluster", err == nil)
	dir := hosttest.Dir(t)
	w := &world{T: t, data: hosttest.Subdir(t, dir, "data"), fs: &directory{volfile: filepath.Join(dir, "vol"), log: filepath.Join(dir, "log")}}
	text := fmt.Sprintf("volume all\n  type storage/posix\n  option directory %s\nend-volume\n", w.data)
	if err := os.WriteFile(w.fs.volfile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.db = "db-" + filepath.Base(dir)
	hosttest.Subdir(t, w.data, w.db)
	w.config = fuseclient.Config{
		Kind: fuseclient.Kind{Program: "glusterfs", FSType: "fuse.glusterfs", EndTime: 5 * time.Second},
		Dir:  filepath.Join(dir, "run"), Wait: 5 * time.Second,
	}
	w.spec = fuseclient.Spec{Kind: w.config.Kind, FileSystem: w.fs, Name: "a directory", Log: w.fs.log}
	w.open()
	return w
}

// open opens the clients, as dvold does when it is started.
func (w *world) open() {
	w.Helper()
	c, err := fuseclient.Open(w.config, slog.New(slog.NewTextHandler(w.Output(), nil)))
	if err != nil {
		w.Fatal(err)
	}
	w.Clients = c
	w.Cleanup(func() {
		c.Close()
		w.killAll()
	})
}

// killAll kills all clients.
func (w *world) killAll() {
	for _, p := range w.processes() {
		_ = unix.Kill(p.PID, unix.SIGKILL)
		w.eventually("a client that was killed ends", func() bool { return !p.Alive() })
	}
}

func (w *world) processes() (all []host.Process) {
	w.Helper()
	below, err := w.config.Below(w.Dir())
	if err != nil {
		w.Fatal(err)
	}
	for _, some := range below {
		all = append(all, some...)
	}
	return all
}

// wantClients waits until so many clients run, and there is no mountpoint without one. A
// glusterfs mounts by a child, which may end a moment after it; and what a client has left is
// taken away after its successor serves.
func (w *world) wantClients(want int) {
	w.Helper()
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		points, err := os.ReadDir(w.Dir())
		all := w.processes()
		if len(all) == want && len(points) <= want && err == nil {
			return
		}
		if err != nil || time.Now().After(end) {
			w.Errorf("there are %d clients, want %d, and the mountpoints %v, %v", len(all), want, points, err)
			return
		}
	}
}

func (w *world) eventually(what string, is func() bool) {
	w.Helper()
	for end := time.Now().Add(15 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("in 15 s not so: %s", what)
		}
	}
}

// bind has a directory below root appear at a new mountpoint.
func (w *world) bind(root, below string) (target string) {
	w.Helper()
	target = hosttest.Dir(w.T)
	if err := w.bindTo(root, below, target); err != nil {
		w.Fatal(err)
	}
	return target
}

func (w *world) bindTo(root, below, target string) error {
	return unix.Mount(filepath.Join(root, below), target, "", unix.MS_BIND, "")
}

// fifo is a named pipe: who opens it waits.
func (w *world) fifo() string {
	name := filepath.Join(hosttest.Dir(w.T), "fifo")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		w.Fatal(err)
	}
	return name
}

func (w *world) shared() *fuseclient.Shared {
	return w.Shared("all", func() fuseclient.Spec { return w.spec })
}

// enter enters the shared client, and leaves it.
func (w *world) enter() (root string) {
	w.Helper()
	root, leave, err := w.shared().Enter(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	leave()
	return root
}

// Whoever comes first, and however many at once, there is one shared client, also for a dvold that
// is started anew; it ends when nothing is mounted of it.
func TestOneClient(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, leave, err := w.shared().Enter(t.Context()); err != nil {
				t.Error(err)
			} else {
				leave()
			}
		})
	}
	all.Wait()
	w.wantClients(1)
	target := w.bind(w.enter(), w.db)
	w.Close()
	w.open()
	before := w.processes()
	w.shared()
	w.Tend()
	w.enter()
	if after := w.processes(); len(after) != 1 || after[0] != before[0] {
		t.Errorf("clients were %v, and are %v", before, after)
	}
	time.Sleep(2 * fuseclient.TendInterval) // there is no grace, and a volume
	w.wantClients(1)
	if err := unix.Unmount(target, 0); err != nil {
		t.Fatal(err)
	}
	w.eventually("it has ended, and its mountpoint is gone", func() bool {
		points, err := os.ReadDir(w.Dir())
		return err == nil && len(points) == 0
	})
	w.wantClients(0)
	if n := w.fs.started.Load(); n != 1 {
		t.Errorf("%d clients were started", n)
	}
}

// What a client that was killed served is served by the next, after the servers were told.
func TestHealed(t *testing.T) {
	w := newWorld(t)
	var buried atomic.Value
	w.spec.Bury = func(_ context.Context, mountpoint string) error {
		buried.Store(mountpoint)
		return errors.New("they can't be reached") // and it goes on all the same
	}
	root := w.enter()
	target := w.bind(root, w.db)
	w.Tend()
	killed := w.processes()[0]
	if err := unix.Kill(killed.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.eventually("it is healed", func() bool { return os.WriteFile(filepath.Join(target, "file"), nil, 0o600) == nil })
	if got := buried.Load(); got != root {
		t.Errorf("buried is %v, want %s", got, root)
	}
	w.eventually("what was mounted at first is gone", func() bool {
		points, err := os.ReadDir(w.Dir())
		return err == nil && len(points) == 1
	})
	w.wantClients(1)
}

// A client that its servers refuse is replaced.
func TestRefused(t *testing.T) {
	w := newWorld(t)
	var refused atomic.Bool
	w.spec.Ask = []string{"sh", "-c", "! test -e " + w.data + "/refused"}
	w.spec.CutOff = func(host.Process) bool { return refused.Swap(false) }
	w.enter()
	first := w.processes()[0]
	target := w.bind(w.enter(), w.db)
	refused.Store(true)
	if err := os.WriteFile(w.data+"/refused", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.Tend()
	w.eventually("it is gone", func() bool { return !first.Alive() })
	if err := os.Remove(w.data + "/refused"); err != nil {
		t.Fatal(err)
	}
	w.eventually("its volume is healed", func() bool { return os.WriteFile(filepath.Join(target, "file"), nil, 0o600) == nil })
	w.wantClients(1)
}

// A client that does not come up leaves nothing, and keeps nobody for longer than Wait.
func TestNotUp(t *testing.T) {
	for name, change := range map[string]func(*world){
		"it ends": func(w *world) { w.fs.volfile = "/nosuch" },
		"what it has started does not end": func(w *world) {
			w.config.Program = "sh"
			w.spec.Kind, w.spec.FileSystem = w.config.Kind, script(`sh -c "read never <`+w.fifo()+`" "$0" & exit 1`)
		},
		"servers say nothing": func(w *world) {
			w.fs.args = func(ctx context.Context) error {
				<-ctx.Done()
				return fmt.Errorf("no word: %w: %w", backends.ErrUnavailable, context.Cause(ctx))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.config.Wait = time.Second
			change(w)
			w.open()
			begin := time.Now()
			if _, _, err := w.shared().Enter(t.Context()); !errors.Is(err, backends.ErrUnavailable) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			if points, err := os.ReadDir(w.Dir()); err != nil || len(points) > 0 {
				t.Errorf("it left the mountpoints %v, %v", points, err)
			}
			if left := w.processes(); len(left) > 0 {
				t.Errorf("it left the processes %v", left)
			}
		})
	}
}

// A volume's own client serves nothing else, and ends with it; what was begun and not handed out
// leaves nothing.
func TestOwn(t *testing.T) {
	w := newWorld(t)
	own := fuseclient.Own{Spec: w.spec, Key: "db", Path: w.db}
	buried := 0
	own.Bury = func(context.Context, string) error { buried++; return nil }
	target := hosttest.Dir(t)
	bind := func(root string) error { return w.bindTo(root, w.db, target) }
	why := errors.New("it is not what it should be")

	fails := func(context.Context, *fuseclient.Client) error { return why }
	if err := w.MountOwn(t.Context(), own, target, false, fails, bind); !errors.Is(err, why) {
		t.Errorf("a check that fails: %v", err)
	}
	bindsHalf := func(root string) error { return errors.Join(bind(root), why) }
	if err := w.MountOwn(t.Context(), own, target, false, nil, bindsHalf); !errors.Is(err, why) {
		t.Errorf("a bind that fails in the end: %v", err)
	}
	if mounted, err := host.IsMountpoint(target); err != nil || mounted || buried != 2 {
		t.Errorf("mounted %t, %v; %d of 2 clients were buried", mounted, err, buried)
	}
	w.wantClients(0)

	for range 2 {
		if err := w.MountOwn(t.Context(), own, target, false, nil, bind); err != nil {
			t.Fatal(err)
		}
	}
	w.wantClients(1)
	if err := w.MountOwn(t.Context(), own, target, true, nil, bind); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("in another way: %v", err)
	}
	if err := w.checkUnused(); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("is it used: %v", err)
	}
	if err := w.UnmountOwn(t.Context(), own.Key, target); err != nil {
		t.Error(err)
	}
	w.wantClients(0)
	if err := w.checkUnused(); err != nil {
		t.Error(err)
	}
}

// checkUnused is CheckUnused of the volume of TestOwn.
func (w *world) checkUnused() error { return w.config.CheckUnused(w.db) }

// A client that was started and handed out nowhere is ended, unless something shows its file
// system after all.
func TestOwnLeftOver(t *testing.T) {
	w := newWorld(t)
	own := fuseclient.Own{Spec: w.spec, Key: "db", Path: w.db}
	c, err := w.StartOwn(t.Context(), own)
	if err != nil {
		t.Fatal(err)
	}
	target := w.bind(c.Mountpoint, w.db)
	if err := w.EndOwn(t.Context(), own.Key); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("end what something shows: %v", err)
	}
	if _, err := w.StartOwn(t.Context(), own); !errors.Is(err, backends.ErrInUse) {
		t.Errorf("start in the place of what something shows: %v", err)
	}
	w.wantClients(1)
	if err := unix.Unmount(target, 0); err != nil {
		t.Fatal(err)
	}
	next, err := w.StartOwn(t.Context(), own)
	if err != nil {
		t.Fatal(err)
	}
	if c.Alive() || !next.Alive() {
		t.Errorf("the first is alive %t, the next %t", c.Alive(), next.Alive())
	}
	if err := unix.Kill(next.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	w.eventually("it has ended", func() bool { return !next.Alive() })
	bind := func(root string) error { return w.bindTo(root, w.db, target) }
	if err := w.PlaceOwn(t.Context(), own, target, false, bind); !errors.Is(err, backends.ErrUnavailable) {
		t.Errorf("mount by a client that has ended: %v", err)
	}
	for range 2 {
		if err := w.EndOwn(t.Context(), own.Key); err != nil {
			t.Error(err)
		}
	}
	w.wantClients(0)
}
