package cut_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// storage is a file system that a process serves, and which hangs when that is
// stopped.
type storage struct {
	dir    string
	server *exec.Cmd
}

func newStorage(t testing.TB) storage {
	t.Helper()
	hosttest.Root(t)
	_, err := os.Stat("/dev/fuse")
	hosttest.Need(t, "fuse", err == nil)
	s := storage{dir: hosttest.Subdir(t, hosttest.Dir(t), "storage")}
	s.server = start(t, false, "fuse", s.dir)
	return s
}

func (s storage) signal(t testing.TB, signal os.Signal) {
	t.Helper()
	if err := s.server.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// hang stops the storage until it is to go on, or the test ends.
func (s storage) hang(t testing.TB) (goOn func()) {
	t.Helper()
	return hosttest.Freeze(t, s.server.Process.Pid)
}

// waits returns once a thread of a child waits in the kernel for the storage.
func waits(t *testing.T, child *exec.Cmd) {
	t.Helper()
	within(t, "a process that waits for the storage", func() bool {
		threads, err := filepath.Glob("/proc/" + pid(child) + "/task/*/wchan")
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(threads, func(path string) bool {
			text, err := os.ReadFile(path)
			return err == nil && (string(text) == "request_wait_answer" || strings.HasPrefix(string(text), "folio_wait_bit"))
		})
	})
}

func TestStorage(t *testing.T) {
	s := newStorage(t)
	w := newWorld(t, s.dir)
	writer := start(t, false, "write", w.file("file"))
	mapped := start(t, false, "map", w.file("mapped"))
	innocent := start(t, false, "write", filepath.Join(w.neighbour, "file"))
	cutNow(t, newCutter(t), w.volume)
	if !killed(t, writer) || !killed(t, mapped) || !alive(t, innocent) {
		t.Error("a writer lives, or the neighbour does not")
	}
	growing(t, filepath.Join(w.neighbour, "file"))
}

// A storage that hangs makes a cut fail in time, however often it is tried, and
// leaves few goroutines behind. Once it goes on the cut is verified.
func TestHungStorage(t *testing.T) {
	s := newStorage(t)
	w := newWorld(t, s.dir)
	writer := start(t, false, "write", w.file("file"))
	idle := start(t, false, "open", w.file("other"))
	goOn := s.hang(t)
	waits(t, writer)
	before := runtime.NumGoroutine()
	c := newCutter(t)
	for range 4 {
		cutFails(t, c, w.volume, "process "+pid(writer)+" (exe), which was killed and has not ended (state D)")
	}
	fewGoroutines(t, before)
	goOn()
	cutNow(t, c, w.volume)
	if !killed(t, writer) || !killed(t, idle) {
		t.Error("a victim lives")
	}
}

// Whether a file behind a mount that is in no table is in the volume the storage has to say.
// One that is slow has nobody killed who can't write; one that does not say so in time has.
func TestSlowStorage(t *testing.T) {
	for name, hangs := range map[string]bool{"slow": false, "hangs": true} {
		t.Run(name, func(t *testing.T) {
			s := newStorage(t)
			w := newWorld(t, s.dir)
			child := behindDetached(t, w.neighbour)
			goOn := s.hang(t)
			if !hangs {
				time.AfterFunc(1200*time.Millisecond, goOn)
				report := cutNow(t, newCutter(t), w.volume)
				if len(report.Killed) != 0 || !alive(t, child) {
					t.Errorf("killed %+v, want nobody", report.Killed)
				}
				return
			}
			c := newCutter(t)
			cutFails(t, c, w.volume, "process "+pid(child)+" (exe), which was killed")
			goOn()
			cutNow(t, c, w.volume)
			if !killed(t, child) {
				t.Error("who may have had a file of the volume lives")
			}
		})
	}
}

// fewGoroutines fails if there are many more than before: those that hang.
func fewGoroutines(t *testing.T, before int) {
	t.Helper()
	within(t, "few goroutines", func() bool { return runtime.NumGoroutine() <= before+3 })
}

// Nobody waits for the storage, but what was written may still be on its way.
func TestHungStorageWithoutWriter(t *testing.T) {
	s := newStorage(t)
	w := newWorld(t, s.dir)
	goOn := s.hang(t)
	before := runtime.NumGoroutine()
	c := newCutter(t)
	for range 4 {
		cutFails(t, c, w.volume, "open file system "+w.volume.Device+": hangs")
	}
	fewGoroutines(t, before)
	notMounted(t, w.volume.Mountpoint) // that much can be done
	goOn()
	cutNow(t, c, w.volume)
}

// A storage that is dead is no obstacle to a volume of another, whatever
// processes have of it.
func TestAnotherStorageHangs(t *testing.T) {
	s := newStorage(t)
	dir := hosttest.Subdir(t, s.dir, "dir")
	hosttest.Subdir(t, dir, "below")
	victims := []*exec.Cmd{ // of the storage
		start(t, false, "work-in", filepath.Join(dir, "below")),
		start(t, false, "live-in", dir),
		start(t, false, "open", filepath.Join(dir, "open")),
		start(t, false, "map", filepath.Join(dir, "mapped")),
		start(t, false, "write", filepath.Join(dir, "written")),
		start(t, true, "bind", dir, hosttest.Dir(t)),
		behindDetached(t, dir),
		start(t, false, "unmap", filepath.Join(dir, "unmapped")),
	}
	unmapping := victims[len(victims)-1]
	w := onTmpfs(t)
	writer := start(t, false, "write", w.file("file"))
	s.hang(t)
	if err := unmapping.Process.Signal(unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	waits(t, unmapping) // for the storage, with its memory locked
	report := cutNow(t, newCutter(t), w.volume)
	if len(report.Killed) != 1 || !killed(t, writer) {
		t.Errorf("killed %+v, want %s", report.Killed, pid(writer))
	}
	for _, v := range victims {
		if !alive(t, v) {
			t.Errorf("%v was killed", v.Args)
		}
	}
}

// A client that has ended has nothing under way.
func TestEndedStorage(t *testing.T) {
	s := newStorage(t)
	w := newWorld(t, s.dir)
	idle := start(t, false, "open", w.file("file"))
	s.signal(t, unix.SIGKILL)
	within(t, "an end of the storage", func() bool {
		_, err := os.ReadDir(s.dir)
		return errors.Is(err, unix.ENOTCONN)
	})
	cutNow(t, newCutter(t), w.volume)
	if !killed(t, idle) {
		t.Error("a process that had a file of it lives")
	}
	notMounted(t, w.volume.Mountpoint)
}

// A storage that is the volume's alone is cut even if it hangs, and who serves
// it, whatever he has in memory, is killed too.
func TestSoleStorage(t *testing.T) {
	for name, hang := range map[string]bool{"well": false, "hangs": true} {
		t.Run(name, func(t *testing.T) {
			s := newStorage(t)
			other := newStorage(t)
			v := identified(t, cut.Volume{ID: "db-0123456789ab", Mountpoint: s.dir, Sole: true})
			writer := start(t, false, "write", filepath.Join(s.dir, "file"))
			if hang {
				s.hang(t)
			}
			report := cutNow(t, newCutter(t), v)
			served := killed(t, s.server) || !hang && !alive(t, s.server) // who is well may end before that
			if !killed(t, writer) || !served || len(report.ShutDown) != 1 {
				t.Errorf("writer killed: %t, server ended: %t, %+v", killed(t, writer), served, report)
			}
			notMounted(t, s.dir)
			if err := os.WriteFile(filepath.Join(other.dir, "file"), []byte("x"), 0o600); err != nil || !alive(t, other.server) {
				t.Errorf("another storage does not go on: %v", err)
			}
		})
	}
}

// As long as it can't be shut down it stays mounted, for who serves it would be found no more.
func TestSoleStorageIsNotShutDown(t *testing.T) {
	for name, volume := range map[string]func(t *testing.T, s storage) cut.Volume{
		"the volume": func(t *testing.T, s storage) cut.Volume {
			return identified(t, cut.Volume{ID: "db-0123456789ab", Mountpoint: s.dir, Sole: true})
		},
		"behind it": func(t *testing.T, s storage) cut.Volume { v, _ := onServed(t, s); return v },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStorage(t)
			v := volume(t, s)
			writer := start(t, false, "write", filepath.Join(v.Mountpoint, "file"))
			none, err := os.Open(hosttest.Dir(t))
			if err != nil {
				t.Fatal(err)
			}
			defer none.Close()
			c := newCutter(t)
			c.SetControl(none)
			cutFails(t, c, v, "which is not shut down")
			if !killed(t, writer) {
				t.Error("the writer lives")
			}
			identified(t, v) // it is mounted
			c.SetControl(nil)
			cutNow(t, c, v)
			if alive(t, s.server) {
				t.Error("who serves it lives")
			}
		})
	}
}

// Cut returns when its time is up, not before it could do anything.
func TestCutIsInTime(t *testing.T) {
	w := onTmpfs(t)
	start(t, false, "open", w.file("file"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newCutter(t).Cut(ctx, w.volume); !errors.Is(err, cut.ErrNotVerified) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v and %v", err, cut.ErrNotVerified, context.Canceled)
	}
}
