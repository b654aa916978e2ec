package guard_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/guard"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// guardProcess starts a guard as a process, and returns when it watches.
func (w *world) guardProcess(cutter string) *exec.Cmd {
	w.t.Helper()
	return w.guardBinary("/proc/self/exe", cutter, "", "soft")
}

func (w *world) guardBinary(binary, cutter, watchdog, hard string) *exec.Cmd {
	w.t.Helper()
	command := exec.Command(binary, childArg, "guard", w.guardDir(), w.rebootCommand(), cutter, watchdog, hard)
	hosttest.Start(w.t, command)
	return command
}

func send(t *testing.T, command *exec.Cmd, s syscall.Signal) {
	t.Helper()
	if err := command.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// pool is a file system of its own, and has a name of its own: on a shared one
// others may have files open in ways that make them suspect, and cuts of other
// tests take a device that has the number of theirs, and its name, for theirs.
func (w *world) pool() string {
	w.t.Helper()
	dir := filepath.Join(w.dir, "pool")
	if mounted, err := host.IsMountpoint(dir); err != nil {
		w.t.Fatal(err)
	} else if !mounted {
		hosttest.Subdir(w.t, w.dir, "pool")
		if err := unix.Mount(filepath.Base(w.dir), dir, "tmpfs", 0, "size=4m"); err != nil {
			w.t.Fatal(err)
		}
	}
	return dir
}

// volume mounts a directory as a volume, with a process that writes to it, and
// returns its order.
func (w *world) volume(id string, left time.Duration) (o guard.Order, writer *exec.Cmd) {
	w.t.Helper()
	o = w.order(id, left)
	o.CutTime = 20 * time.Second
	source := hosttest.Subdir(w.t, w.pool(), id)
	o.Volume = w.mount(o.Volume, source)
	return o, w.writer(o.Mountpoint)
}

// mount mounts source as a volume.
func (w *world) mount(v cut.Volume, source string) cut.Volume {
	w.t.Helper()
	hosttest.Subdir(w.t, w.dir, "mnt/"+v.ID)
	if err := unix.Mount(source, v.Mountpoint, "", unix.MS_BIND, ""); err != nil {
		w.t.Fatal(err)
	}
	v, err := v.Identified()
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// writer starts a process that writes to a file in dir.
func (w *world) writer(dir string) *exec.Cmd {
	w.t.Helper()
	writer := exec.Command("/proc/self/exe", childArg, "write", filepath.Join(dir, "file"))
	hosttest.Start(w.t, writer)
	return writer
}

// lastWrite returns when a volume was written to last.
func (w *world) lastWrite(id string) time.Duration {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, "pool", id, "file"))
	if err != nil {
		w.t.Fatal(err)
	}
	at, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		w.t.Fatal(err)
	}
	return time.Duration(at)
}

func (w *world) wantCut(o guard.Order, writer *exec.Cmd) {
	w.t.Helper()
	eventually(w.t, "the cut of "+o.ID, func() bool { return w.verified(o.ID) })
	out, _ := w.book.Outcome(o.ID)
	if len(out.Killed) != 1 || out.Killed[0].PID != writer.Process.Pid {
		w.t.Errorf("killed %+v, want the writer %d", out.Killed, writer.Process.Pid)
	}
	if mounted, err := host.IsMountpoint(o.Mountpoint); err != nil || mounted {
		w.t.Errorf("it is mounted: %v, %v", mounted, err)
	}
	last := w.lastWrite(o.ID)
	never(w.t, 100*time.Millisecond, "a write after the cut", func() bool { return w.lastWrite(o.ID) != last })
	if last > out.Verified {
		w.t.Errorf("the last write was %v after the cut was verified", last-out.Verified)
	}
}

// The whole of it: a dvold that renews no more, for it is dead or frozen; the
// guard, a process of its own, kills the writer.
func TestWriterIsCutOff(t *testing.T) {
	t.Parallel()
	hosttest.Root(t)
	w := newWorld(t)
	w.guardProcess("real")
	a, writer := w.volume("a", 4*time.Second)
	b, innocent := w.volume("b", time.Hour)
	w.put(a)
	w.put(b)
	for range 3 { // as long as dvold lives
		a.Deadline = guard.BootTime() + 4*time.Second
		if err := w.book.Renew(1, a.Deadline); err != nil {
			t.Fatal(err)
		}
		never(t, 300*time.Millisecond, "a cut", func() bool { _, ok := w.book.Outcome("a"); return ok })
	}
	w.wantCut(a, writer)
	last := w.lastWrite("a")
	t.Logf("last write %v after the end of the lease", last-a.Deadline)
	if out, _ := w.book.Outcome("a"); out.Began < a.Deadline {
		t.Errorf("the cut began %v before the end of the lease", a.Deadline-out.Began)
	}
	before := w.lastWrite("b")
	eventually(t, "the other volume's next write", func() bool { return w.lastWrite("b") != before })
	send(t, innocent, 0)
	if got := w.reboots(); len(got) != 0 {
		t.Errorf("rebooted: %q", got)
	}
	b.Now = true
	w.put(b)
	w.wantCut(b, innocent)
}

// A dvold that was frozen mounts the volume again, or for the first time, after
// it thawed.
func TestMountedAfterTheCut(t *testing.T) {
	t.Parallel()
	hosttest.Root(t)
	w := newWorld(t)
	w.guardProcess("real")
	early := w.order("a", 100*time.Millisecond) // told before it was mounted
	early.CutTime = 20 * time.Second
	w.put(early)
	eventually(t, "the first cut", func() bool { return w.verified("a") })
	source := hosttest.Subdir(t, w.pool(), "a")
	hosttest.Subdir(t, w.dir, "mnt/a")
	for range 2 {
		writer := w.writer(source) // who is there when it is mounted
		if err := unix.Mount(source, early.Mountpoint, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the end of the writer", func() bool { _, err := host.FindProcess(writer.Process.Pid); return err != nil })
		eventually(t, "the cut", func() bool {
			mounted, err := host.IsMountpoint(early.Mountpoint)
			return err == nil && !mounted && w.verified("a")
		})
	}
	if got := w.reboots(); len(got) != 0 {
		t.Errorf("rebooted: %q", got)
	}
}

// A guard that is killed while it cuts; the next one goes on.
func TestGuardIsKilledWhileItCuts(t *testing.T) {
	t.Parallel()
	hosttest.Root(t)
	w := newWorld(t)
	first := w.guardProcess("hung")
	o, writer := w.volume("a", 200*time.Millisecond)
	w.put(o)
	var began time.Duration
	eventually(t, "a cut", func() bool { out, ok := w.book.Outcome("a"); began = out.Began; return ok })
	send(t, first, syscall.SIGKILL)
	eventually(t, "no guard", func() bool { return !w.book.Guarded() })
	w.guardProcess("real")
	w.wantCut(o, writer)
	if out, _ := w.book.Outcome("a"); out.Began != began {
		t.Errorf("the cut began at %v, then at %v", began, out.Began)
	}
	if got := w.reboots(); len(got) != 0 {
		t.Errorf("rebooted: %q", got)
	}
}

// Guards that are killed again and again don't put off the reboot.
func TestGuardsAreKilledWhileTheyCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.order("a", 200*time.Millisecond)
	o.CutTime = 2 * time.Second
	w.put(o)
	for guard.BootTime() < o.Deadline+o.CutTime {
		g := w.guardProcess("hung")
		never(t, 700*time.Millisecond, "an early reboot", func() bool { return len(w.reboots()) > 0 && guard.BootTime() < o.Deadline+o.CutTime })
		send(t, g, syscall.SIGKILL)
	}
	w.guardProcess("hung")
	eventually(t, "a reboot", func() bool { return len(w.reboots()) > 0 })
	if late := guard.BootTime() - o.Deadline - o.CutTime; late > 2*time.Second {
		t.Errorf("it came %v after the time for a cut", late)
	}
}

// A guard that starts long after the end of a lease cuts, and has as long for it
// as one that is in time.
func TestGuardIsLate(t *testing.T) {
	t.Parallel()
	hosttest.Root(t)
	w := newWorld(t)
	o, writer := w.volume("a", time.Millisecond)
	o.Deadline -= time.Minute
	w.put(o)
	w.guardProcess("real")
	w.wantCut(o, writer)
	if got := w.reboots(); len(got) != 0 {
		t.Errorf("rebooted: %q", got)
	}

	w = newWorld(t)
	o.CutTime = time.Second
	w.put(o)
	w.guardProcess("hung")
	eventually(t, "a reboot", func() bool { return len(w.reboots()) == 1 })
	if out, ok := w.book.Outcome("a"); !ok || guard.BootTime()-out.Began > 3*time.Second {
		t.Errorf("the cut began %v ago", guard.BootTime()-out.Began)
	}
}

// A guard that is frozen is none, though it holds its lock: dvold sees to its
// volumes by itself then.
func TestGuardIsFrozen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.guardProcess("none")
	if !w.book.Guarded() {
		t.Fatal(w.book.Unguarded())
	}
	own := newCutter()
	w.standBy(own)
	send(t, g, syscall.SIGSTOP)
	began := time.Now()
	eventually(t, "no guard", func() bool { return !w.book.Guarded() })
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it was noticed after %v", took)
	}
	w.put(w.order("a", 100*time.Millisecond))
	eventually(t, "the cut by dvold", func() bool { return w.verified("a") && len(own.of("a")) == 1 })
	send(t, g, syscall.SIGCONT)
	eventually(t, "the guard", w.book.Guarded)
	w.put(w.order("b", 100*time.Millisecond))
	eventually(t, "the cut by the guard", func() bool { return w.verified("b") })
	if len(own.of("b")) != 0 {
		t.Error("dvold cut beside its guard")
	}
}

// SIGTERM ends a guard at once, but not without a word.
func TestGuardIsStopped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(w.order("a", time.Hour))
	command := exec.Command("/proc/self/exe", childArg, "guard", w.guardDir(), w.rebootCommand(), "none", "", "soft")
	said, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill() })
	eventually(t, "a guard", w.book.Guarded)
	send(t, command, syscall.SIGTERM)
	var log strings.Builder
	for lines := bufio.NewScanner(said); lines.Scan(); {
		fmt.Fprintln(&log, lines.Text())
	}
	if err := command.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if !regexp.MustCompile(`level=ERROR .*volumes=\[a\]`).MatchString(log.String()) {
		t.Errorf("it said %q", log.String())
	}
	if w.book.Guarded() {
		t.Error("it counts as a guard")
	}
}

// A watchdog is fed for as long as all is well.
func TestGuardFeedsItsWatchdog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path := filepath.Join(w.dir, "watchdog")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	device, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(device)
	eaten := func() string { // since it was asked last
		food := make([]byte, 1000)
		n, err := unix.Read(device, food)
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			t.Fatal(err)
		}
		return string(food[:max(n, 0)])
	}
	fed := func() bool { return strings.Contains(eaten(), "\x00") }
	g := w.guardBinary("/proc/self/exe", "hung", path, "soft")
	for range 3 {
		eventually(t, "food", fed)
	}
	w.put(w.order("a", time.Second))
	eventually(t, "food", fed)
	eventually(t, "the cut", func() bool { _, ok := w.book.Outcome("a"); return ok })
	eaten()
	never(t, 700*time.Millisecond, "food, though a volume is not cut", fed)
	if err := w.book.Remove("a"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "food", fed)
	send(t, g, syscall.SIGTERM)
	eventually(t, "the magic close", func() bool { return strings.HasSuffix(eaten(), "V") })
	_ = g.Wait()

	w.put(w.order("a", time.Hour))
	g = w.guardBinary("/proc/self/exe", "none", path, "soft")
	eventually(t, "food", fed)
	send(t, g, syscall.SIGTERM)
	_ = g.Wait()
	if strings.Contains(eaten(), "V") {
		t.Error("the watchdog is off, and a volume unguarded")
	}
}

var _ guard.Cutter = (*cut.Cutter)(nil)
