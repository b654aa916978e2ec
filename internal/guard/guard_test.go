package guard_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/guard"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// start runs a guard in this process, and returns when it watches. What it
// returned with, and logged, is known after stop.
func (w *world) start(c guard.Cutter) (stop func() (log string)) {
	w.t.Helper()
	var log strings.Builder
	ready, ended := make(chan struct{}), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	cfg := guard.Config{Dir: w.guardDir(), CutTime: time.Second, RebootCommand: w.rebootCommand(), Ready: func() { close(ready) }}
	lines := guard.NewWriter(io.MultiWriter(&log, w.t.Output()))
	go func() { ended <- guard.Run(ctx, cfg, c, slog.New(slog.NewTextHandler(lines, nil))) }()
	stopped := false
	stop = func() string {
		if stopped {
			return log.String()
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the guard ended with %v", err)
		}
		_ = lines.Close()
		return log.String()
	}
	w.t.Cleanup(func() { stop() })
	select {
	case <-ready:
	case <-time.After(10 * time.Second):
		w.t.Fatal("the guard did not start")
	}
	return stop
}

func TestLeaseIsOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newCutter()
	stop := w.start(c)
	o := w.order("a", 300*time.Millisecond)
	w.put(o)
	w.put(w.order("b", time.Hour))
	eventually(t, "the cut of a", func() bool { return w.verified("a") })
	outcome, _ := w.book.Outcome("a")
	if late := outcome.Began - o.Deadline; late < 0 || late > 5*time.Second {
		t.Errorf("it began %v after the end of the lease", late)
	}
	if outcome.Verified < outcome.Began || outcome.Problem != "" {
		t.Errorf("got %+v", outcome)
	}
	never(t, 300*time.Millisecond, "a was cut again, or b at all", func() bool { return len(c.of("a")) != 1 || len(c.of("b")) != 0 })
	if _, ok := w.book.Outcome("b"); ok {
		t.Error("there is an outcome for a volume that is not due")
	}
	if log := stop(); !strings.Contains(log, "nobody but dvold") || !strings.Contains(log, "[a b]") {
		t.Errorf("the guard ended without a word about a and b: %s", log)
	}
	if got := w.reboots(); len(got) != 0 {
		t.Errorf("rebooted: %q", got)
	}
}

func TestRenewedLease(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newCutter()
	stop := w.start(c)
	o := w.order("a", 3*time.Second)
	w.put(o)
	for first := o.Deadline; guard.BootTime() < first+500*time.Millisecond; {
		o.Deadline = guard.BootTime() + 3*time.Second
		if err := w.book.Renew(1, o.Deadline); err != nil {
			t.Fatal(err)
		}
		never(t, 50*time.Millisecond, "a cut", func() bool { return len(c.of("a")) != 0 })
	}
	if err := w.book.Remove("a"); err != nil {
		t.Fatal(err)
	}
	never(t, 3200*time.Millisecond, "a cut", func() bool { return len(c.of("a")) != 0 })
	if log := stop(); strings.Contains(log, "level=ERROR") {
		t.Errorf("it complains: %s", log)
	}
}

// A lease that is renewed at the last moment: either the guard sees it, or dvold
// hears that it is too late.
func TestRenewedAtTheLastMoment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newCutter()
	w.start(c)
	var kept, over []string
	for i := range 40 {
		id := string(rune('A' + i))
		o := w.order(id, 150*time.Millisecond)
		o.Incarnation = uint64(i)
		w.put(o)
		early := time.Duration(i-10) * 4 * time.Millisecond
		for guard.BootTime() < o.Deadline-early {
		}
		switch err := w.book.Renew(uint64(i), guard.BootTime()+time.Hour); {
		case err == nil:
			kept = append(kept, id)
		case errors.Is(err, guard.ErrOver):
			over = append(over, id)
		default:
			t.Fatal(err)
		}
	}
	if len(kept) == 0 || len(over) == 0 {
		t.Errorf("in time %v, too late %v: want some of both", kept, over)
	}
	for _, id := range over {
		eventually(t, "the cut of "+id, func() bool { return w.verified(id) })
	}
	never(t, 250*time.Millisecond, "a cut of a volume whose lease was renewed", func() bool {
		return slices.ContainsFunc(kept, func(id string) bool { return len(c.of(id)) != 0 })
	})
}

func TestReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newCutter()
	w.start(c)
	o := w.order("a", time.Hour)
	w.put(o)
	never(t, 250*time.Millisecond, "a cut", func() bool { return len(c.of("a")) != 0 })
	o.Now, o.Device, o.Root = true, "8:1", "/a"
	w.put(o)
	eventually(t, "the cut", func() bool { return w.verified("a") })
	if got := c.of("a"); len(got) != 1 || got[0].Device != "8:1" || got[0].Root != "/a" {
		t.Errorf("got %+v", got)
	}
}

// While the lease lasts a cut that does not come to an end is no reason to
// reboot.
func TestReplacedAndNotVerified(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newCutter()
	c.set("a", inVain)
	w.start(c)
	o := w.order("a", 2500*time.Millisecond)
	o.Now = true
	w.put(o)
	eventually(t, "a problem", func() bool { out, ok := w.book.Outcome("a"); return ok && out.Problem != "" && out.Verified == 0 })
	never(t, o.Deadline+o.CutTime-guard.BootTime()-50*time.Millisecond, "a reboot", func() bool { return len(w.reboots()) > 0 })
	eventually(t, "a reboot", func() bool { return len(w.reboots()) > 0 })
}

func TestNotVerified(t *testing.T) {
	t.Parallel()
	for name, behave := range map[string]func(context.Context) error{"hung": hangs, "in vain": inVain} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := newCutter()
			c.set("a", behave)
			w.start(c)
			o := w.order("a", 200*time.Millisecond)
			w.put(o)
			w.put(w.order("b", 400*time.Millisecond))
			eventually(t, "the cut of b, beside one that does not end", func() bool { return w.verified("b") })
			var at time.Duration
			eventually(t, "a reboot", func() bool { at = guard.BootTime(); return len(w.reboots()) > 0 })
			if late := at - o.Deadline - o.CutTime; late < 0 || late > 5*time.Second {
				t.Errorf("it came %v after the time for a cut", late)
			}
			never(t, 1500*time.Millisecond, "a second reboot", func() bool { return len(w.reboots()) > 1 })
			why := w.reboots()[0]
			if !strings.HasPrefix(why, "1: ") || !strings.Contains(why, "volume a is over") || strings.Contains(why, "volume b") {
				t.Errorf("the reason is %q", why)
			}
			if said := strings.Contains(why, "process 7 is in the way"); said != (name == "in vain") {
				t.Errorf("the reason is %q", why)
			}
			if out, ok := w.book.Outcome("a"); !ok || out.Verified != 0 {
				t.Errorf("got %+v, %v", out, ok)
			}
		})
	}
}

// What was verified too late needs no reboot, if the command for it did not work
// until then.
func TestRebootIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newCutter()
	release := make(chan struct{})
	c.set("a", func(context.Context) error { <-release; return nil })
	w.start(c)
	if err := os.WriteFile(filepath.Join(w.dir, "fail"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.put(w.order("a", 100*time.Millisecond))
	eventually(t, "three reboots", func() bool { return len(w.reboots()) >= 3 })
	close(release)
	eventually(t, "the cut", func() bool { return w.verified("a") })
	count := len(w.reboots())
	never(t, 1500*time.Millisecond, "more than one more", func() bool { return len(w.reboots()) > count+1 })
}

// A volume that was cut and is mounted again is cut again.
func TestMountedAgain(t *testing.T) {
	t.Parallel()
	hosttest.Root(t)
	w := newWorld(t)
	c := newCutter()
	w.start(c)
	o := w.order("a", 100*time.Millisecond)
	hosttest.Subdir(t, w.dir, "mnt/a")
	source := hosttest.Subdir(t, w.pool(), "a")
	w.put(o)
	eventually(t, "the cut", func() bool { return w.verified("a") })
	never(t, 300*time.Millisecond, "a second cut", func() bool { return len(c.of("a")) > 1 })
	unmount := func(context.Context) error { return unix.Unmount(o.Mountpoint, unix.MNT_DETACH) }
	c.set("a", unmount)
	for n := 2; n < 4; n++ {
		before, _ := w.book.Outcome("a")
		if err := unix.Mount(source, o.Mountpoint, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		eventually(t, "another cut", func() bool {
			out, ok := w.book.Outcome("a")
			return ok && out.Began > before.Began && out.Verified != 0 && len(c.of("a")) == n
		})
	}
	c.set("a", inVain)
	if err := unix.Mount(source, o.Mountpoint, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an outcome that is not verified", func() bool { return !w.verified("a") })
	eventually(t, "a reboot", func() bool { return len(w.reboots()) == 1 })
}

// A cut that says it is verified while the volume is mounted is not believed,
// and tried again at leisure: the guard has a priority that nobody else gets
// anything beside.
func TestCutThatIsNotTrue(t *testing.T) {
	t.Parallel()
	hosttest.Root(t)
	w := newWorld(t)
	c := newCutter()
	w.start(c)
	o := w.order("a", 100*time.Millisecond)
	hosttest.Subdir(t, w.dir, "mnt/a")
	if err := unix.Mount(hosttest.Subdir(t, w.pool(), "a"), o.Mountpoint, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(o.Mountpoint, unix.MNT_DETACH) })
	w.put(o)
	eventually(t, "two cuts", func() bool { return len(c.of("a")) >= 2 })
	before := len(c.of("a"))
	never(t, time.Second, "a cut that is believed", func() bool { return w.verified("a") })
	if n := len(c.of("a")) - before; n > 12 {
		t.Errorf("%d cuts in a second", n)
	}
	eventually(t, "a reboot", func() bool { return len(w.reboots()) == 1 })
}

// Where a volume is becomes known only once it is mounted, perhaps while it is
// being cut already, or after.
func TestDeviceBecomesKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newCutter()
	c.set("a", inVain)
	w.start(c)
	o := w.order("a", 100*time.Millisecond)
	w.put(o)
	eventually(t, "a cut", func() bool { return len(c.of("a")) == 1 })
	began, _ := w.book.Outcome("a")
	c.set("a", nil)
	o.Device = "8:1"
	w.put(o)
	eventually(t, "a cut of the device", func() bool { return w.verified("a") })
	if got := c.of("a"); got[len(got)-1].Device != "8:1" {
		t.Errorf("got %+v", got)
	}
	if again, _ := w.book.Outcome("a"); began.Began != 0 && again.Began != began.Began {
		t.Errorf("it began at %v, then at %v", began.Began, again.Began)
	}
	count := len(c.of("a"))
	o.Root = "/a"
	w.put(o)
	eventually(t, "a cut of the root", func() bool { return len(c.of("a")) == count+1 && w.verified("a") })
}

func TestCutFailsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newCutter()
	c.set("a", func(context.Context) error { return errors.New("no") })
	c.set("b", func(context.Context) error { panic("no") })
	w.start(c)
	w.put(w.order("a", 100*time.Millisecond))
	w.put(w.order("b", 100*time.Millisecond))
	for _, id := range []string{"a", "b"} {
		eventually(t, "a problem", func() bool { out, ok := w.book.Outcome(id); return ok && strings.Contains(out.Problem, "no") })
	}
	never(t, 300*time.Millisecond, "a cut in a hot loop", func() bool { return len(c.of("a")) > 6 || len(c.of("b")) > 6 })
	c.set("a", nil)
	c.set("b", nil)
	for _, id := range []string{"a", "b"} {
		eventually(t, "the cut", func() bool { return w.verified(id) })
	}
}

// A guard that goes on with the cut of another cuts the same volume.
func TestCutIsTakenOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := newCutter(), newCutter()
	first.set("a", inVain)
	stop := w.start(first)
	o := w.order("a", 100*time.Millisecond)
	o.CutTime, o.Device, o.Root = time.Minute, "8:1", "/a"
	w.put(o)
	var began time.Duration
	eventually(t, "a cut", func() bool { out, ok := w.book.Outcome("a"); began = out.Began; return ok })
	stop()
	w.start(second)
	eventually(t, "the cut", func() bool { return w.verified("a") })
	if got := second.of("a"); len(got) != 1 || !reflect.DeepEqual(got[0], o.Volume) {
		t.Errorf("the second guard cut %+v, want %+v", got, o.Volume)
	}
	if out, _ := w.book.Outcome("a"); out.Began != began {
		t.Errorf("it began at %v, then at %v", began, out.Began)
	}
}
