package volumes

import (
	"errors"
	"testing"
	"time"
)

// Fences of a kind that must not be at work twice take turns, on whichever hosts.
func TestFencesTakeTurns(t *testing.T) {
	f, all := newFencedFleet(t, "h1", "h2", "h3")
	h1 := f.node("h1")
	for _, name := range []string{"db2", "db3"} {
		h1.must(h1.Create(t.Context(), name, exclusive))
		h1.mount(name, "c1", me(t))
	}
	h1.silence()
	all.fail(func(string) error {
		time.Sleep(200 * time.Millisecond)
		return nil
	})
	errs := f.together(func(n *node) error {
		if n == h1 {
			return nil
		}
		_, err := n.Mount(t.Context(), "db"+n.name[1:], "c1", me(t))
		return err
	})
	if err := errors.Join(errs["h2"], errs["h3"]); err != nil {
		t.Fatal(err)
	}
	h1.heard()
	h1.eventually("it is unfenced", func() bool { return len(h1.keys("fences/")) == 0 })
	if all.together.Load() {
		t.Errorf("two were at work at once: %v", all.log())
	}
	if left := h1.keys("turns/"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Turns whose end could not be written down are over all the same: soon for
// others, at once for the host itself.
func TestTurnThatIsLeftOver(t *testing.T) {
	f, all := newFencedFleet(t, "h1", "h2", "h3")
	h1, h2, h3 := f.node("h1"), f.node("h2"), f.node("h3")
	for _, name := range []string{"db2", "db3"} {
		h1.must(h1.Create(t.Context(), name, exclusive))
		h1.mount(name, "c1", me(t))
	}
	h1.silence()
	all.fail(func(string) error {
		h2.line.fail(away)
		return errSwitch
	})
	if _, err := h2.Mount(t.Context(), "db2", "c1", me(t)); err == nil {
		t.Error("mounted, though nobody was cut off")
	}
	if left := h3.keys("turns/"); len(left) != 2 {
		t.Errorf("turns are %v, want that of the proof and that of the fence left over", left)
	}
	all.fail(nil)
	h2.line.fail(nil)
	h2.eventually("the coordinator answers", func() bool { return h2.reach.err() == nil })
	h2.mount("db2", "c1", me(t))
	h3.mount("db3", "c1", me(t))
	h3.eventually("no turn is left", func() bool { return len(h3.keys("turns/")) == 0 })
}
