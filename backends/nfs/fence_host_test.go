package nfs_test

import (
	"errors"
	"fmt"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host/hosttest"
)

// recordSize is that of the records that hosts write. The first of a file has the number 1.
const recordSize = 16

// record is what a host writes as its n-th.
func record(host string, n int64) []byte { return fmt.Appendf(nil, "%s %012d\n", host, n) }

// runFencedHost is the host that is fenced, which does what the other asks it for.
func runFencedHost(t *testing.T, m meeting) {
	run(t, "ip", "address", "add", fencedAddress+"/24", "dev", "vec0")
	server := rpc.NewServer()
	if err := server.RegisterName("Host", &fencedHost{dir: hosttest.Dir(t)}); err != nil {
		t.Fatal(err)
	}
	server.ServeConn(m.conn)
}

// fencedHost is what the host that is fenced can be asked for.
type fencedHost struct {
	dir    string // where the export is mounted
	lock   *os.File
	writer *numberWriter
}

// Mount mounts a source with options.
func (h *fencedHost) Mount(args []string, _ *int) error { return mountExport(args[0], h.dir, args[1]) }

// mountExport mounts an export at dir.
func mountExport(source, dir, options string) error {
	if out, err := exec.Command("mount", "-i", "-t", "nfs", "-o", options, source, dir).CombinedOutput(); err != nil {
		return fmt.Errorf("mount %s: %w: %s", source, err, out)
	}
	return nil
}

// Lock takes a lock on a file, until Leave.
func (h *fencedHost) Lock(name string, _ *int) (err error) {
	h.lock, err = lockFile(filepath.Join(h.dir, name))
	return err
}

// lockFile returns a file with a lock on it that nobody else can have.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

// Write starts to write a file, until Leave.
func (h *fencedHost) Write(name string, _ *int) error {
	h.writer = &numberWriter{path: filepath.Join(h.dir, name), ended: make(chan struct{})}
	go h.writer.run()
	return nil
}

// Count tells how far the writer is.
func (h *fencedHost) Count(_ int, c *Counts) error {
	*c = Counts{Acked: h.writer.acked.Load(), Refused: h.writer.refused.Load(), Writing: h.writer.writing.Load()}
	c.Last, _ = h.writer.last.Load().(string)
	return nil
}

// Counts is how many records a host was told are on the disk, how often it was refused one,
// and what it was told then; and whether it is writing one.
type Counts struct {
	Acked, Refused int64
	Last           string
	Writing        bool
}

// Leave has the host have nothing of the export any more.
func (h *fencedHost) Leave(_ int, _ *int) (err error) {
	if h.writer != nil {
		h.writer.end.Store(true)
		<-h.writer.ended
	}
	if h.lock != nil {
		_ = h.lock.Close() // which fails if the lock was lost
	}
	h.lock, h.writer = nil, nil
	return os.NewSyscallError("unmount", unix.Unmount(h.dir, 0))
}

// WriteAndDie has a process write a record to a file that it has open, with the host cut off from
// the server, and kills it when the record is in the socket.
func (h *fencedHost) WriteAndDie(name string, _ *int) error {
	f, err := os.OpenFile(filepath.Join(h.dir, name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	victim := exec.Command("sh", "-c", "read go && exec dd conv=notrunc,fsync status=none")
	victim.Stdout = f
	input, err := victim.StdinPipe()
	if err == nil {
		err = victim.Start()
	}
	err = errors.Join(err, f.Close()) // the victim has it
	if err != nil {
		return err
	}
	if err := route("add"); err != nil {
		return err
	}
	before, err := unsent()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(input, "go\n%s", record("h1", 1)); err != nil {
		return err
	}
	input.Close()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		now, err := unsent()
		if err == nil && now > before {
			break
		}
		if err != nil || time.Now().After(end) {
			return errors.Join(fmt.Errorf("the record does not come to the socket, in which there are %d bytes", now), err)
		}
	}
	err = victim.Process.Kill()
	go func() { _ = victim.Wait() }() // its file is closed only when the server has answered
	return err
}

// Heal undoes the cut.
func (h *fencedHost) Heal(_ int, _ *int) error { return route("delete") }

// route adds or deletes one by which nothing comes to the server.
func route(do string) error {
	if out, err := exec.Command("ip", "route", do, "blackhole", serverAddress, "table", "local").CombinedOutput(); err != nil {
		return fmt.Errorf("%s a route: %w: %s", do, err, out)
	}
	return nil
}

// Unsent is how many bytes the host has in its connections to the server.
func (h *fencedHost) Unsent(_ int, n *int64) (err error) { *n, err = unsent(); return err }

func unsent() (sum int64, err error) {
	out, err := exec.Command("ss", "-tnH", "dst", serverAddress+":2049").CombinedOutput()
	for line := range strings.Lines(string(out)) {
		var state string
		var received, sent int64
		if n, _ := fmt.Sscan(line, &state, &received, &sent); n == 3 {
			sum += sent
		}
	}
	return sum, err
}

// numberWriter writes records one after the other, each until the server has it.
type numberWriter struct {
	path           string
	acked, refused atomic.Int64
	last           atomic.Value // the last error
	writing        atomic.Bool
	end            atomic.Bool
	ended          chan struct{}
}

func (w *numberWriter) run() {
	defer close(w.ended)
	for !w.end.Load() {
		if err := w.write(); err != nil {
			w.last.Store(err.Error())
			w.refused.Add(1)
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// write goes on until there is an error.
func (w *numberWriter) write() error {
	fd, err := unix.Open(w.path, unix.O_WRONLY|unix.O_CREAT|unix.O_DSYNC|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	for err == nil && !w.end.Load() {
		n := w.acked.Load() + 1
		w.writing.Store(true)
		_, err = unix.Pwrite(fd, record("h1", n), (n-1)*recordSize)
		w.writing.Store(false)
		if err == nil {
			w.acked.Add(1)
			time.Sleep(10 * time.Millisecond) // others need the processor, too
		}
	}
	return errors.Join(err, unix.Close(fd))
}

// fenced is the host that is fenced.
type fenced struct{ *rpc.Client }

// fencedBy is the other guest, which runs runFencedHost.
func fencedBy(t *testing.T, m meeting) fenced {
	t.Helper()
	h := fenced{rpc.NewClient(m.conn)}
	t.Cleanup(func() { h.Close() })
	return h
}

func (h fenced) do(t *testing.T, what string, arg any) {
	t.Helper()
	var none int
	if err := h.Call("Host."+what, arg, &none); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func (h fenced) count(t *testing.T) (c Counts) {
	t.Helper()
	if err := h.Call("Host.Count", 0, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

func (h fenced) awaitAcked(t *testing.T) {
	t.Helper()
	begin := h.count(t).Acked
	within(t, "more writes", func() bool { return h.count(t).Acked > begin+2 })
}

func (h fenced) awaitRefused(t *testing.T) {
	t.Helper()
	begin := h.count(t).Refused
	within(t, "refusals", func() bool { return h.count(t).Refused > begin+2 })
}

// awaitNoMore checks that the host does not sync more records than landed, for a while.
func (h fenced) awaitNoMore(t *testing.T, landed int64) {
	t.Helper()
	time.Sleep(5 * time.Second)
	if now := h.count(t).Acked; now > landed {
		t.Errorf("%d records have landed, and %d were synced", landed, now)
	}
}
