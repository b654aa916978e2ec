package nfs_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/nfs"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// A server that is killed is waited for, and has all that was flushed to it.
func testRestarted(t *testing.T, s server) {
	var writers []*writer
	for _, version := range []string{"4.2", "3"} {
		c := newPool(t, s.exported, version)
		p := openPool(t, hosttest.Dir(t), c)
		v := create(t, p, backends.Request{})
		for _, alone := range []bool{false, true} {
			target, name := mount(t, p, v.Handle, backends.MountOptions{Alone: alone}), fmt.Sprint("alone-", alone)
			writers = append(writers, startWriter(t, filepath.Join(target, name), filepath.Join(s.exported, c.Subdir, v.Handle, name)))
		}
	}
	awaitLines(t, writers, 5)
	s.kill(t)
	time.Sleep(100 * time.Millisecond) // for answers on their way
	before := make([]int64, len(writers))
	for n, w := range writers {
		before[n] = w.lines.Load()
	}
	time.Sleep(time.Second)
	for n, w := range writers {
		if now := w.lines.Load(); now != before[n] {
			t.Errorf("%s: %d lines were flushed without a server", w.path, now-before[n])
		}
	}
	s.start(t)
	awaitLines(t, writers, 5)
	for _, w := range writers {
		w.check(t)
	}
}

// awaitLines waits until each writer has flushed so many lines more.
func awaitLines(t *testing.T, writers []*writer, more int64) {
	t.Helper()
	begin := time.Now()
	for _, w := range writers {
		for want := w.lines.Load() + more; w.lines.Load() < want; time.Sleep(10 * time.Millisecond) {
			if time.Since(begin) > time.Minute {
				t.Fatalf("%s: after %d lines no more are flushed", w.path, w.lines.Load())
			}
		}
	}
	t.Logf("%d writers went on after %v", len(writers), time.Since(begin).Round(time.Millisecond))
}

// writer adds numbers to a file, a line each, and flushes them, until it is stopped.
type writer struct {
	path  string
	there string       // where the server has the file
	lines atomic.Int64 // that were flushed
	stop  atomic.Bool
	ended chan error
}

// startWriter has the file open in one thread alone: a program that is started closes what
// it has inherited, and flushes it with that, for which it needs the server.
func startWriter(t *testing.T, path, there string) *writer {
	t.Helper()
	w := &writer{path: path, there: there, ended: make(chan error, 1)}
	t.Cleanup(func() { w.stop.Store(true) })
	apart := make(chan error)
	go func() {
		runtime.LockOSThread() // it ends with this goroutine
		err := os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_FILES))
		if apart <- err; err == nil {
			w.ended <- w.write()
		}
	}()
	if err := <-apart; err != nil { // what is opened from now on is no business of its
		t.Fatal(err)
	}
	return w
}

func (w *writer) write() error {
	fd, err := unix.Open(w.path, unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC|unix.O_CLOEXEC, 0o600)
	for err == nil && !w.stop.Load() {
		if _, err = unix.Write(fd, fmt.Appendln(nil, w.lines.Load()+1)); err == nil {
			err = unix.Fsync(fd)
		}
		if err == nil {
			w.lines.Add(1)
			time.Sleep(10 * time.Millisecond) // others need the processor, too
		}
	}
	return errors.Join(err, unix.Close(fd))
}

// check stops the writer, and has the test fail if it saw an error, or the server has
// not just what it flushed.
func (w *writer) check(t *testing.T) {
	t.Helper()
	w.stop.Store(true)
	if err := <-w.ended; err != nil {
		t.Error(err)
	}
	var want strings.Builder
	for n := range w.lines.Load() {
		fmt.Fprintln(&want, n+1)
	}
	if got, err := os.ReadFile(w.there); string(got) != want.String() {
		t.Errorf("%s: the server has %q, %v, want %d lines", w.path, got, err, w.lines.Load())
	}
}

// An export that is made anew is found out, said, and mounted again as soon as nobody
// uses it.
func testStale(t *testing.T, s server) {
	c := newPool(t, s.exported, "4.2")
	c.Options, c.MountGrace = []string{"actimeo=1"}, time.Hour
	p := openPool(t, hosttest.Dir(t), c)
	v := create(t, p, backends.Request{})
	target, own := mount(t, p, v.Handle, backends.MountOptions{}), mount(t, p, v.Handle, backends.MountOptions{Alone: true})
	writeFile(t, filepath.Join(target, "file"))

	s.kill(t)
	dir := filepath.Join(s.exported, c.Subdir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	restored := hosttest.Subdir(t, dir, v.Handle)
	if err := os.WriteFile(filepath.Join(restored, "file"), []byte("restored"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t)

	var err error
	for end := time.Now().Add(time.Minute); err == nil && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		_, err = p.Stat(t.Context(), v.Handle)
	}
	another := hosttest.Subdir(t, hosttest.Dir(t), id)
	for what, err := range map[string]error{"stat": err, "mount": p.Mount(t.Context(), v.Handle, another, backends.MountOptions{})} {
		if !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), "the server knows what is mounted no more") {
			t.Errorf("%s: got %v", what, err)
		}
	}
	for _, at := range []string{target, own} {
		if _, err := os.ReadFile(filepath.Join(at, "file")); !errors.Is(err, unix.ESTALE) {
			t.Errorf("read at %s: got %v", at, err)
		}
		unmount(t, p, v.Handle, at)
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if _, err := p.Stat(t.Context(), v.Handle); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatalf("it stays stale: %v", err)
		}
	}
	for _, o := range []backends.MountOptions{{}, {Alone: true}} {
		target := mount(t, p, v.Handle, o)
		if text, err := os.ReadFile(filepath.Join(target, "file")); string(text) != "restored" {
			t.Errorf("%+v: got %q, %v", o, text, err)
		}
	}
}

// Volumes in an export that is read-only can be read, and nothing else.
func testReadOnly(t *testing.T, s server) {
	c := newPool(t, s.readOnly, "4.2")
	p, handle := openPool(t, hosttest.Dir(t), c), "volumes/"+id
	writeFile(t, filepath.Join(hosttest.Subdir(t, filepath.Join(s.readOnly, c.Subdir), handle), "file"))
	for what, call := range map[string]func() error{
		"create": func() error { return makeVolume(t, p, "other.0123456789ab") },
		"remove": func() error { return p.Remove(t.Context(), handle) },
	} {
		if err := call(); !errors.Is(err, backends.ErrUnavailable) || !strings.Contains(err.Error(), "the export is read-only") {
			t.Errorf("%s: got %v", what, err)
		}
	}
	for _, alone := range []bool{false, true} {
		target := mount(t, p, handle, backends.MountOptions{Alone: alone})
		if text, err := os.ReadFile(filepath.Join(target, "file")); string(text) != "data" {
			t.Errorf("got %q, %v", text, err)
		}
		if err := os.WriteFile(filepath.Join(target, "file"), nil, 0o600); !errors.Is(err, unix.EROFS) {
			t.Errorf("write: got %v", err)
		}
		unmount(t, p, handle, target)
	}
}

// makeVolume makes a volume.
func makeVolume(t *testing.T, p *nfs.Pool, id string) error {
	v, err := p.Plan(t.Context(), backends.Request{ID: id})
	if err != nil {
		return err
	}
	return p.Create(t.Context(), v)
}
