package volumes

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// soon is how long nothing may take that this host can do by itself.
const soon = 2 * time.Second

// quickly fails the test if fn fails, or takes long.
func (n *node) quickly(what string, fn func() error) {
	n.t.Helper()
	begin := time.Now()
	if err := fn(); err != nil {
		n.t.Errorf("%s: %v", what, err)
	}
	if took := time.Since(begin); took > soon {
		n.t.Errorf("%s took %v", what, took)
	}
}

// outages are the ways in which a coordinator is not there.
var outages = map[string]func(context.Context) error{"unavailable": away, "hangs": hung}

func TestKnownVolumesGoOnWithoutTheCoordinator(t *testing.T) {
	for name, outage := range outages {
		for _, first := range []string{"get", "names", "mount", "unmount"} {
			t.Run(name+", first "+first, func(t *testing.T) { testKnownVolumesGoOn(t, outage, first) })
		}
	}
}

func testKnownVolumesGoOn(t *testing.T, outage func(context.Context) error, first string) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	for _, name := range []string{"held", "known"} {
		h1.must(h1.Create(t.Context(), name, nil))
	}
	h1.must(h2.Create(t.Context(), "strange", nil))
	target := h1.mount("held", "c1", me(t))
	h1.line.fail(outage)
	calls := map[string]func() error{
		"get": func() error {
			v, err := h1.Get(t.Context(), "known")
			if err == nil && v.AsOf == nil {
				err = errors.New("it does not say as of when")
			}
			return err
		},
		"names": func() error {
			names, err := h1.Names(t.Context())
			if err == nil && (!slices.Contains(names, "held") || !slices.Contains(names, "known")) {
				err = errors.New("some that are known are missing")
			}
			return err
		},
		"list":    func() error { _, err := h1.List(t.Context()); return err },
		"pools":   func() error { _, err := h1.ClusterPools(t.Context()); return err },
		"inspect": func() error { _, err := h1.Inspect(t.Context(), "known"); return err },
		"mount":   func() error { _, err := h1.Mount(t.Context(), "known", "c2", me(t)); return err },
		"unmount": func() error { return h1.Unmount(t.Context(), "held", "c1") },
	}
	h1.quickly(first, calls[first])
	for _, name := range []string{"get", "names", "list", "pools", "inspect", "mount", "unmount"} {
		if name != first {
			h1.quickly(name, calls[name])
		}
	}
	if h1.mounted(target) {
		t.Error("the volume is still mounted")
	}
	_, err := h1.Get(t.Context(), "strange")
	wantError(t, "get of what was never seen", err, ErrUnseen)
	wantError(t, "get of what was never seen", err, ErrUnavailable, "coordinator")
	for what, call := range map[string]func() error{
		"create": func() error { return h1.Create(t.Context(), "new", nil) },
		"remove": func() error { return h1.Remove(t.Context(), "held", nil) },
		"set":    func() error { _, err := h1.SetAccess(t.Context(), "held", AccessReadOnly); return err },
		"resize": func() error { _, err := h1.Resize(t.Context(), "held", 1<<20); return err },
		"drain":  func() error { return h1.Drain(t.Context(), "h2", true) },
		"trash":  func() error { _, err := h1.Trash(t.Context()); return err },
		"hosts":  func() error { _, err := h1.Hosts(t.Context()); return err },
		"accept": func() error { return ignore(h1.Accept(t.Context()), ErrInvalid) },
	} {
		h1.quickly(what, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 2*soon)
			defer cancel()
			now := call
			done := make(chan error, 1)
			go func() { done <- now() }()
			select {
			case err := <-done:
				if what != "accept" {
					wantError(t, what, err, ErrUnavailable)
				}
				return nil
			case <-ctx.Done():
				return errors.New("no answer")
			}
		})
	}

	h1.line.fail(nil) // it is back
	h1.settled()
	if got := h1.heldBy("h1"); !slices.Equal(got, []string{"known"}) {
		t.Errorf("the records say that it holds %v", got)
	}
	wantError(t, "remove elsewhere", h2.Remove(t.Context(), "known", nil), ErrInUse, `"h1"`)
	h1.must(h1.Unmount(t.Context(), "known", "c2"))
	h1.settled()
	h2.must(h2.Remove(t.Context(), "known", nil))
	h1.must(h1.Create(t.Context(), "new", nil))
}

// TestFirstChange: who asks for a change is the first to notice that the
// coordinator hangs.
func TestChangesFailSoonWhenTheCoordinatorHangs(t *testing.T) {
	for name, change := range map[string]func(h1 *node, ctx context.Context) error{
		"create": func(h1 *node, ctx context.Context) error { return h1.Create(ctx, "new", nil) },
		"remove": func(h1 *node, ctx context.Context) error { return h1.Remove(ctx, "data", nil) },
		"set": func(h1 *node, ctx context.Context) error {
			_, err := h1.SetAccess(ctx, "data", AccessReadOnly)
			return err
		},
		"resize": func(h1 *node, ctx context.Context) error {
			_, err := h1.Resize(ctx, "data", 1<<20)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, "h1")
			h1 := f.node("h1")
			h1.must(h1.Create(t.Context(), "data", nil))
			h1.line.fail(hung)
			h1.quickly("the first", func() error {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				wantError(t, "the first", change(h1, ctx), ErrUnavailable)
				return nil
			})
			begin := time.Now()
			wantError(t, "the next", change(h1, t.Context()), ErrUnavailable, "no answer from the coordinator since")
			if took := time.Since(begin); took > soon/4 {
				t.Errorf("the next took %v", took)
			}
		})
	}
}

// The sweeper holds a volume's lock while it looks after the volume's records.
func TestCallsDoNotWaitForASweeperThatWaitsForTheCoordinator(t *testing.T) {
	for name, sweep := range map[string]func(h1 *node){
		"resume": func(h1 *node) {
			in := intent{Kind: removing, Name: "data", By: caller{Host: "h1"}, version: 1}
			_ = h1.resumeOne(h1.background, in) // which fails
		},
		"reconcile": func(h1 *node) { _ = h1.reconcileNames(h1.background, []string{"data"}) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, "h1")
			h1 := f.node("h1")
			h1.must(h1.Create(t.Context(), "data", nil))
			h1.settled()
			h1.line.fail(hung)
			ended := make(chan struct{})
			go func() { defer close(ended); sweep(h1) }()
			h1.eventually("the sweeper has the volume", func() bool {
				release, free := h1.locks.try("data")
				if free {
					release()
				}
				return !free
			})
			h1.quickly("remove", func() error {
				wantError(t, "remove", h1.Remove(t.Context(), "data", nil), ErrUnavailable)
				return nil
			})
			<-ended
		})
	}
}

// TestMountWhenCommitsHang: reads may still be answered when writes are not.
func TestMountOfAKnownVolumeDoesNotWaitForAWriteThatHangs(t *testing.T) {
	f := newFleet(t, "h1")
	h1 := f.node("h1")
	h1.must(h1.Create(t.Context(), "data", nil))
	h1.at("mount: intent written", func() { h1.line.fail(hung) }) // its record was just read
	h1.quickly("mount", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := h1.Mount(ctx, "data", "c1", me(t))
		return err
	})
	h1.line.fail(nil)
	h1.settled()
	if got := h1.heldBy("h1"); !slices.Equal(got, []string{"data"}) {
		t.Errorf("the records say that it holds %v", got)
	}
	h1.must(h1.Unmount(t.Context(), "data", "c1"))
}

// reboot is what a host's death by power loss leaves: nothing mounted, and an
// empty run directory.
func (n *node) reboot() {
	n.t.Helper()
	targets, err := filepath.Glob(filepath.Join(n.dir, "run", "mnt", "*"))
	n.must(err)
	n.die()
	for _, target := range targets {
		n.must(unix.Unmount(target, 0))
	}
	n.must(os.RemoveAll(filepath.Join(n.dir, "run")))
}

func TestRebootWithoutTheCoordinatorMountsWhatIsKnown(t *testing.T) {
	for name, outage := range outages {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, "h1", "h2")
			h1, h2 := f.node("h1"), f.node("h2")
			for _, name := range []string{"data", "was"} {
				h1.must(h1.Create(t.Context(), name, nil))
				h1.mount(name, "c0", me(t))
			}
			h1.write(h1.location("data"), "f", "precious")
			h1.reboot()
			h1.line.fail(outage)
			begin := time.Now()
			h1.start()
			if took := time.Since(begin); took > 3*joinTimeout/2 {
				t.Errorf("the start took %v", took)
			}
			h1.quickly("mount", func() error {
				if got := h1.read(h1.mount("data", "c1", me(t)), "f"); got != "precious" {
					t.Errorf("read %q", got)
				}
				return nil
			})
			wantError(t, "create", h1.Create(t.Context(), "new", nil), ErrUnavailable)
			wantError(t, "remove elsewhere", h2.Remove(t.Context(), "data", nil), ErrInUse, `"h1"`)
			h1.line.fail(nil)
			h1.settled() // and "was" is not held any more
			wantError(t, "remove elsewhere", h2.Remove(t.Context(), "data", nil), ErrInUse, `"h1"`)
			h2.must(h2.Remove(t.Context(), "was", nil))
			h1.must(h1.Unmount(t.Context(), "data", "c1"))
		})
	}
}

func TestWhatWasSeenTooLongAgoIsNotMountedWithoutTheCoordinator(t *testing.T) {
	f := newFleet(t, "h1")
	h1 := f.node("h1")
	for _, name := range []string{"data", "held"} {
		h1.must(h1.Create(t.Context(), name, nil))
	}
	h1.mount("held", "c1", me(t))
	h1.must(h1.known.flush())
	h1.must(h1.known.db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{"data", "held"} {
			var a acquaintance
			if err := json.Unmarshal(tx.Bucket(knownBucket).Get([]byte(name)), &a); err != nil {
				return err
			}
			a.Seen = a.Seen.Add(-knownFor - time.Minute)
			value, err := json.Marshal(a)
			if err != nil {
				return err
			}
			if err := tx.Bucket(knownBucket).Put([]byte(name), value); err != nil {
				return err
			}
		}
		return nil
	}))
	h1.line.fail(away)
	if v, err := h1.Get(t.Context(), "data"); err != nil || v.AsOf == nil {
		t.Errorf("get: %+v, %v", v, err)
	}
	_, err := h1.Mount(t.Context(), "data", "c1", me(t))
	wantError(t, "mount", err, ErrUnavailable, "too long ago", "coordinator")
	h1.mount("held", "c2", me(t)) // is mounted here anyway
	h1.line.fail(nil)
	h1.eventually("it can be mounted again", func() bool {
		_, err := h1.Mount(t.Context(), "data", "c1", me(t))
		return err == nil
	})
	h1.must(h1.Unmount(t.Context(), "data", "c1"))
}

// TestCallerWithoutTime: a deadline of the caller's own says nothing about the
// coordinator.
func TestCallerWhoseTimeIsUpDoesNotMakeTheCoordinatorAway(t *testing.T) {
	f := newFleet(t, "h1")
	h1 := f.node("h1")
	h1.must(h1.Create(t.Context(), "data", nil))
	h1.mount("data", "c1", me(t))
	heal := h1.gates["a"].hang()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	engine := me(t)
	wantError(t, "remove", h1.Remove(ctx, "data", &engine), ErrUnavailable)
	heal()
	release, err := h1.locks.acquire(t.Context(), "data") // when the call has ended
	h1.must(err)
	release()
	if err := h1.reach.err(); err != nil {
		t.Errorf("the coordinator counts as away: %v", err)
	}
	if _, err := h1.Get(t.Context(), "data"); err != nil {
		t.Error(err)
	}
}
