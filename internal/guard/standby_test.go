package guard_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/guard"
)

// standBy runs a standby until the test ends.
func (w *world) standBy(c guard.Cutter) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan struct{})
	cfg := guard.Config{RebootCommand: w.rebootCommand()}
	log := slog.New(slog.NewTextHandler(w.t.Output(), nil))
	go func() {
		defer close(ended)
		guard.Standby(ctx, w.book, cfg, c, log)
	}()
	w.t.Cleanup(func() { cancel(); <-ended })
}

func TestStandby(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own, guards := newCutter(), newCutter()
	w.standBy(own)
	w.put(w.order("a", 100*time.Millisecond))
	w.put(w.order("b", time.Hour))
	eventually(t, "the cut by dvold itself", func() bool { return w.verified("a") })
	if w.book.Guarded() {
		t.Error("dvold counts as its own guard")
	}
	stop := w.start(guards)
	eventually(t, "a guard", w.book.Guarded)
	w.put(w.order("c", 100*time.Millisecond))
	eventually(t, "the cut by the guard", func() bool { return w.verified("c") })
	if n := len(own.of("c")); n != 0 {
		t.Errorf("dvold cut beside its guard, %d times", n)
	}
	stop()
	w.put(w.order("d", 100*time.Millisecond))
	eventually(t, "the cut by dvold itself", func() bool { return w.verified("d") })
	if len(guards.of("d")) != 0 || len(own.of("d")) != 1 {
		t.Error("the wrong one cut")
	}
}

// A guard may end without another word from dvold: before an order is due, or with what it has begun.
func TestGuardEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own, guards := newCutter(), newCutter()
	guards.set("b", inVain)
	stop := w.start(guards)
	eventually(t, "a guard", w.book.Guarded)
	w.standBy(own)
	o := w.order("b", 100*time.Millisecond)
	o.CutTime = time.Minute
	w.put(o)
	w.put(w.order("a", 2*time.Second))
	eventually(t, "a cut by the guard", func() bool { return len(guards.of("b")) > 0 })
	stop()
	eventually(t, "the cuts by dvold itself", func() bool { return w.verified("b") && w.verified("a") })
	if len(own.of("a")) != 1 || len(own.of("b")) != 1 {
		t.Error("the wrong one cut")
	}
}

// A guard that appears takes over what dvold has begun.
func TestGuardTakesOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own, guards := newCutter(), newCutter()
	ended := make(chan struct{})
	own.set("a", func(ctx context.Context) error { <-ctx.Done(); close(ended); return ctx.Err() })
	w.standBy(own)
	o := w.order("a", 100*time.Millisecond)
	o.CutTime = time.Minute
	w.put(o)
	eventually(t, "a cut", func() bool { return len(own.of("a")) == 1 })
	if out, ok := w.book.Outcome("a"); ok && out.Verified != 0 {
		t.Errorf("got %+v", out)
	}
	w.start(guards)
	<-ended
	eventually(t, "the cut by the guard", func() bool { return w.verified("a") && len(guards.of("a")) == 1 })
	if n := len(own.unblocked("a")); n != 0 {
		t.Errorf("it was undone, %d times, while the guard is at it", n)
	}
}

func TestStandbyReboots(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newCutter()
	c.set("a", hangs)
	w.standBy(c)
	o := w.order("a", 100*time.Millisecond)
	w.put(o)
	eventually(t, "a reboot", func() bool { return len(w.reboots()) == 1 })
	if late := guard.BootTime() - o.Deadline - o.CutTime; late < 0 || late > 5*time.Second {
		t.Errorf("it came %v after the time for a cut", late)
	}
}
