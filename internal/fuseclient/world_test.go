package fuseclient_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/fuseclient"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// TestMain runs the tests in a world of its own: what copies this mount namespace, as other
// tests do, would keep a client from ending that has nothing mounted any more.
func TestMain(m *testing.M) {
	if os.Getenv("FIRST_THREAD") != "" { // it is a client
		hosttest.EndFirstThread()
		fmt.Println("ready")
		<-make(chan struct{}, len(os.Args)) // nobody sends
	}
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
	w := &world{T: t, db: "db-" + filepath.Base(dir)}
	w.config = fuseclient.Config{
		Kind: fuseclient.Kind{Program: "glusterfs", FSType: "fuse.glusterfs", EndTime: 5 * time.Second},
		Dir:  filepath.Join(dir, "run"), Wait: 5 * time.Second,
	}
	w.show(dir)
	w.open()
	return w
}

// show has the file system be what lies in dir.
func (w *world) show(dir string) {
	w.Helper()
	w.data = hosttest.Subdir(w.T, dir, "data")
	hosttest.Subdir(w.T, w.data, w.db)
	w.fs = &directory{volfile: filepath.Join(dir, "vol"), log: filepath.Join(dir, "log")}
	text := fmt.Sprintf("volume all\n  type storage/posix\n  option directory %s\nend-volume\n", w.data)
	if err := os.WriteFile(w.fs.volfile, []byte(text), 0o600); err != nil {
		w.Fatal(err)
	}
	w.spec = fuseclient.Spec{Kind: w.config.Kind, FileSystem: w.fs, Name: "a directory", Log: w.fs.log}
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
