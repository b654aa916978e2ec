package guard_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/guard"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// Whatever becomes of its orders, a guard carries out those that it has read,
// and does not count as one until it can read again.
func TestOrdersAreLost(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(w *world){
		"truncated": func(w *world) { text := w.read("orders.json"); w.write("orders.json", text[:len(text)/2]) },
		"empty":     func(w *world) { w.write("orders.json", "") },
		"not JSON":  func(w *world) { w.write("orders.json", "orders\n") },
		"newer": func(w *world) {
			w.write("orders.json", strings.Replace(w.read("orders.json"), `"schema":1`, `"schema":2`, 1))
		},
		"a directory": func(w *world) {
			w.remove("orders.json")
			if err := os.Mkdir(w.file("orders.json"), 0o700); err != nil {
				w.t.Fatal(err)
			}
		},
		"removed": func(w *world) { w.remove("orders.json") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := newCutter()
			stop := w.start(c)
			w.put(w.order("a", 800*time.Millisecond))
			eventually(t, "a guard", w.book.Guarded)
			time.Sleep(250 * time.Millisecond) // it reads ten times a second
			spoil(w)
			eventually(t, "the cut", func() bool { return len(c.of("a")) == 1 })
			eventually(t, "no guard", func() bool { return !w.book.Guarded() })
			never(t, 300*time.Millisecond, "a second cut", func() bool { return len(c.of("a")) != 1 })
			w.remove("orders.json")
			w.put(w.order("b", 100*time.Millisecond)) // writes the orders anew, as a dvold does that goes on
			eventually(t, "a guard", w.book.Guarded)
			eventually(t, "the cut of b", func() bool { return w.verified("b") })
			if !w.verified("a") {
				t.Error("the outcome is lost")
			}
			if log := stop(); strings.Count(log, "goes on with those it knows") > 2 || !strings.Contains(log, "volumes=[a]") {
				t.Errorf("it says too much, or too little: %s", log)
			}
		})
	}
}

func (w *world) remove(name string) {
	w.t.Helper()
	if err := os.RemoveAll(w.file(name)); err != nil {
		w.t.Fatal(err)
	}
}

// One that can't be read for a moment, as for want of descriptors, has not changed by that.
func TestOrdersCannotBeReadForAMoment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newCutter()
	w.start(c)
	w.put(w.order("a", time.Hour))
	eventually(t, "a guard", w.book.Guarded)
	time.Sleep(250 * time.Millisecond) // it reads ten times a second
	if err := os.Rename(w.file("orders.json"), w.file("kept")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("orders.json", w.file("orders.json")); err != nil { // ELOOP
		t.Fatal(err)
	}
	eventually(t, "no guard", func() bool { return !w.book.Guarded() })
	if err := os.Rename(w.file("kept"), w.file("orders.json")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a guard", w.book.Guarded)
	if len(c.of("a")) > 0 {
		t.Error("a was cut")
	}
}

// A guard that is started on orders it can't read does not count as one.
func TestStartOnOrdersThatAreNewer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(w.order("a", 300*time.Millisecond))
	good := w.read("orders.json")
	w.write("orders.json", strings.Replace(good, `"schema":1`, `"schema":2`, 1))
	c := newCutter()
	w.start(c)
	never(t, 600*time.Millisecond, "a guard, or a cut", func() bool { return w.book.Guarded() || len(c.of("a")) != 0 })
	w.write("orders.json", good)
	eventually(t, "a guard", w.book.Guarded)
	eventually(t, "the cut", func() bool { return w.verified("a") })
}

// Orders of an earlier boot are none.
func TestOrdersOfAnotherBoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.put(w.order("a", time.Millisecond))
	text := w.read("orders.json")
	boot := strings.Split(strings.Split(text, `"boot":"`)[1], `"`)[0]
	w.write("orders.json", strings.Replace(text, boot, "another", 1))
	c := newCutter()
	w.start(c)
	never(t, 300*time.Millisecond, "a cut", func() bool { return len(c.of("a")) != 0 })
	if !w.book.Guarded() {
		t.Error(w.book.Unguarded())
	}
}

// Somebody empties /run/dvol: dvold, started again, knows nothing of what is
// mounted, but the guard does.
func TestBookIsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := newCutter()
	stop := w.start(c)
	w.put(w.order("a", 900*time.Millisecond))
	w.put(w.order("b", 900*time.Millisecond))
	eventually(t, "a guard", w.book.Guarded)
	time.Sleep(250 * time.Millisecond) // it reads ten times a second
	if err := os.RemoveAll(filepath.Join(w.dir, "run")); err != nil {
		t.Fatal(err)
	}
	w.book = w.open()
	if got := w.book.Orders(); len(got) != 0 {
		t.Fatalf("the new book has %+v", got)
	}
	w.put(w.order("b", time.Hour)) // mounted again
	w.put(w.order("c", time.Hour))
	eventually(t, "the guard", w.book.Guarded)
	eventually(t, "the cut of a", func() bool { return len(c.of("a")) == 1 })
	never(t, 300*time.Millisecond, "another cut", func() bool { return len(c.of("a")) != 1 || len(c.of("b"))+len(c.of("c")) != 0 })
	if log := stop(); !strings.Contains(log, "volumes=\"[b c]\"") {
		t.Errorf("it does not leave b and c unguarded: %s", log)
	}
}

// Two guards: the second one waits.
func TestSecondGuard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := newCutter(), newCutter()
	stop := w.start(first)
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		w.start(second)
	}()
	w.put(w.order("a", 100*time.Millisecond))
	eventually(t, "the cut", func() bool { return w.verified("a") })
	select {
	case <-ready:
		t.Fatal("there are two guards")
	default:
	}
	stop()
	<-ready
	eventually(t, "a guard", w.book.Guarded)
	if !w.verified("a") {
		t.Error("the second does not know what the first did")
	}
	w.put(w.order("b", 100*time.Millisecond))
	eventually(t, "the cut of b", func() bool { return w.verified("b") })
	if len(first.of("b")) != 0 || len(second.of("a")) != 0 {
		t.Error("the wrong one cut")
	}
}

func TestGuarded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if w.book.Guarded() {
		t.Error("without a guard")
	}
	stop := w.start(newCutter())
	eventually(t, "a guard", w.book.Guarded)
	never(t, 2500*time.Millisecond, "no guard", func() bool { return !w.book.Guarded() })
	stop()
	if w.book.Guarded() {
		t.Error("after its end")
	}
	w.holdLock()
	beat := func(change func(text string) string) error {
		w.write("outcomes.json", change(w.read("outcomes.json")))
		return w.book.Unguarded()
	}
	same := func(text string) string { return text }
	w.book.SetClock(func() time.Duration { return w.beat() })
	if err := beat(same); err != nil {
		t.Error(err)
	}
	for _, kind := range []string{"mnt", "pid"} {
		ours, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		other := kind + ":[1]"
		if err := beat(func(text string) string { return strings.Replace(text, ours, other, 1) }); err == nil || !strings.Contains(err.Error(), other) {
			t.Errorf("with another namespace of the kind %s: %v", kind, err)
		}
		if err := beat(func(text string) string { return strings.Replace(text, other, ours, 1) }); err != nil {
			t.Error(err)
		}
	}
	for _, age := range []time.Duration{-1, 2*time.Second + 1} {
		w.book.SetClock(func() time.Duration { return w.beat() + age })
		if w.book.Guarded() {
			t.Errorf("with a beat that is %v old", age)
		}
	}
	w.book.SetClock(func() time.Duration { return w.beat() })
	if err := beat(func(text string) string { return strings.Replace(text, `"schema":1`, `"schema":2`, 1) }); err == nil {
		t.Error("with outcomes that are newer")
	}
	if err := beat(func(string) string { return "" }); err == nil {
		t.Error("with outcomes that are damaged")
	}
	if _, ok := w.book.Outcome("a"); ok {
		t.Error("an outcome out of nowhere")
	}
}

// What a guard blocks is in its own network.
func TestGuardInAnotherNetwork(t *testing.T) {
	t.Parallel()
	hosttest.Root(t)
	w := newWorld(t)
	stop := w.start(newCutter())
	eventually(t, "a guard", w.book.Guarded)
	stop()
	w.holdLock()
	w.book.SetClock(func() time.Duration { return w.beat() })
	if err := w.book.Unguarded(); err != nil {
		t.Fatal(err)
	}
	other := exec.Command("unshare", "--net", "sh", "-c", "echo; exec sleep infinity")
	hosttest.Start(t, other)
	w.write("outcomes.json", strings.Replace(w.read("outcomes.json"), fmt.Sprintf(`"pid":%d`, os.Getpid()), fmt.Sprintf(`"pid":%d`, other.Process.Pid), 1))
	if err := w.book.Unguarded(); err == nil || !strings.Contains(err.Error(), "another network") {
		t.Errorf("in another network: %v", err)
	}
}

// holdLock has this test hold the lock of the guard.
func (w *world) holdLock() {
	w.t.Helper()
	lock, err := guard.Take(w.guardDir())
	if err != nil || lock == nil {
		w.t.Fatalf("got %v, %v", lock, err)
	}
	w.t.Cleanup(func() { _ = lock.Close() })
}

// beat returns when the guard was there last.
func (w *world) beat() time.Duration {
	w.t.Helper()
	at, err := guard.BeatIn(w.guardDir())
	if err != nil {
		w.t.Fatal(err)
	}
	return at
}
