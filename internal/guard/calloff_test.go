package guard_test

import (
	"context"
	"testing"
	"time"
)

// One that was called off may hang, and can't be undone. That is no reason not to reboot for the next.
func TestCutCannotBeUndone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newCutter()
	c.set("a", inVain)
	c.unblock = func() { select {} }
	w.start(c)
	o := w.order("a", 100*time.Millisecond)
	o.CutTime = time.Minute
	w.put(o)
	eventually(t, "a cut", func() bool { return len(c.of("a")) == 1 })
	if err := w.book.Remove("a"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "that it is called off", func() bool { return len(c.unblocked("a")) == 1 })
	w.put(w.order("a", 100*time.Millisecond))
	eventually(t, "a reboot", func() bool { return len(w.reboots()) > 0 })
}

// An order that is taken back ends the cut, which is undone; the next one of the
// volume has nothing to do with it.
func TestTakenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newCutter()
	ended, undo := make(chan struct{}), make(chan struct{})
	c.set("a", func(ctx context.Context) error { <-ctx.Done(); close(ended); return ctx.Err() })
	c.unblock = func() { <-undo }
	w.start(c)
	o := w.order("a", 100*time.Millisecond)
	o.CutTime = time.Minute
	w.put(o)
	eventually(t, "a cut", func() bool { return len(c.of("a")) == 1 })
	if err := w.book.Remove("a"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("the cut goes on")
	}
	c.set("a", nil)
	eventually(t, "that it is undone", func() bool { return len(c.unblocked("a")) == 1 })
	w.put(w.order("a", 50*time.Millisecond))
	never(t, 400*time.Millisecond, "a cut before that", func() bool { return len(c.of("a")) > 1 })
	close(undo)
	eventually(t, "the cut", func() bool { return w.verified("a") })
	if err := w.book.Remove("a"); err != nil {
		t.Fatal(err)
	}
	w.put(w.order("a", time.Hour))
	if _, ok := w.book.Outcome("a"); ok {
		t.Error("the outcome of an earlier order is told of this one")
	}
	never(t, 250*time.Millisecond, "a verified cut is undone", func() bool { return len(c.unblocked("a")) > 1 })
}
