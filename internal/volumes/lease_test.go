package volumes

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/guard"
	"github.com/dvol/dvold/internal/standing"
)

// leaseFleet is h1 and h2, whose shared pool can't fence; h1's lease is of that
// time.
func leaseFleet(t *testing.T, ttl time.Duration) (h1, h2 *node, lease *lease) {
	t.Helper()
	f := newFleet(t)
	h1, h2 = f.add("h1"), f.add("h2")
	h1.terms = Exclusive{Takeover: TakeoverAuto, AcceptLease: true, OnSessionLoss: standing.Cut, MountWait: time.Second}
	h2.terms = h1.terms
	lease = h1.line.expire(ttl)
	h1.start()
	h2.start()
	h1.must(h1.Create(t.Context(), "db", exclusive))
	return h1, h2, lease
}

// guarded has a guard run for the host, as a process of its own would.
// end ends it sooner than the test.
func (n *node) guarded() (end func()) {
	n.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	c := guard.Config{Dir: n.guardDir(), CutTime: n.cfg.CutTime, RebootCommand: "/bin/true"}
	go func() { ended <- guard.Run(ctx, c, n.cutter, n.log) }()
	end = sync.OnceFunc(func() {
		stop()
		n.must(<-ended)
	})
	n.t.Cleanup(end)
	n.eventually("a guard is there", n.guard.Guarded)
	return end
}

func TestSilentOwnerThatIsNotGuardedIsNotOutwaited(t *testing.T) {
	h1, h2, lease := leaseFleet(t, 2*time.Second)
	target := h1.mount("db", "c1", me(t))
	h1.silence()
	_, err := h2.Mount(t.Context(), "db", "c1", me(t))
	wantError(t, "mount", err, ErrUnavailable, "no guard ran there", "dvold volume release db --from h1")
	h1.eventually("it was cut off at the end of its lease all the same", func() bool { return !h1.mounted(target) })
	if left := lease.Deadline() - h1.now(); left > 0 {
		t.Errorf("cut off %v before the end of its lease", left)
	}
}

// TestSilentOwnerIsOutwaited: h1 falls silent, cuts itself off at the end of its
// lease, and only when nothing else is possible by the promises that it left, h2
// has the volume.
func TestSilentOwnerIsOutwaited(t *testing.T) {
	h1, h2, lease := leaseFleet(t, 2*time.Second)
	h1.guarded()
	target := h1.mount("db", "c1", me(t))
	wait := h1.owner("db").Terms.leaseWait()
	h1.silence()
	silent := h1.now()
	h2.mount("db", "c1", me(t))
	if took := h1.now() - silent; took < wait {
		t.Errorf("taken over %v after h1 fell silent, want %v", took, wait)
	}
	if h1.mounted(target) || lease.Deadline() > h1.now() {
		t.Error("h1 has it mounted still, or its lease goes on")
	}
	h2.wantOwner("db", "h2", 2)
	h1.heard()
	h1.eventually("h1 is clean", func() bool { return len(h1.keys("fences/")) == 0 && len(h1.mountsNow()) == 0 })
	h2.wantOwner("db", "h2", 2)
}

// Whoever waits in vain is told for what: a call whose time is up may still say so.
func TestMountWhoseTimeIsUpSaysWhatItWaitedFor(t *testing.T) {
	h1, h2, _ := leaseFleet(t, 20*time.Second)
	h1.guarded()
	h1.mount("db", "c1", me(t))
	h1.silence()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := h2.Mount(ctx, "db", "c1", me(t))
	wantError(t, "mount", err, ErrUnavailable, `owned by host "h1"`, "will have cut itself off only in")
}

// TestOwnerThatIsBackWhileItIsOutwaited: the taker notices, and waits for a live
// owner instead, which nobody has stopped.
func TestOwnerThatIsBackWhileItIsOutwaitedGoesOn(t *testing.T) {
	h1, h2, lease := leaseFleet(t, 10*time.Second)
	h1.guarded()
	target := h1.mount("db", "c1", me(t))
	h1.silence()
	got := make(chan error)
	go func() {
		_, err := h2.Mount(context.Background(), "db", "c1", me(t))
		got <- err
	}()
	time.Sleep(time.Second) // h2 is to see it silent
	lease.renew()           // as the next session's
	h1.heard()
	h1.eventually("h1 goes on", func() bool { o, ok := h1.owned("db"); return ok && o.state.Phase == standing.Held })
	wantError(t, "mount on h2", <-got, ErrInUse, `"h1"`)
	h1.wantOwner("db", "h1", 1)
	if !h1.mounted(target) {
		t.Error("cut off")
	}
}

// TestJournalIsLostUnderALease: what this host promised about a volume that is mounted
// stands, though dvold does not know of it any more.
func TestJournalIsLostUnderALease(t *testing.T) {
	h1, h2, lease := leaseFleet(t, 4*time.Second)
	h1.guarded()
	target := h1.mount("db", "c1", me(t))
	h1.die()
	h1.must(os.Remove(filepath.Join(h1.dir, "run", "mounts.db")))
	h1.start()
	_, err := h1.Mount(t.Context(), "db", "c2", me(t))
	wantError(t, "mount once more", err, ErrUnavailable, "lost its own state", "when its lease is over")
	if !h1.mounted(target) || len(h1.guard.Orders()) != 1 {
		t.Errorf("mounted %t, and the guard's orders are %v", h1.mounted(target), h1.guard.Orders())
	}
	h1.eventually("it was cut off", func() bool { return !h1.mounted(target) })
	if left := lease.Deadline() - h1.now(); left > 0 {
		t.Errorf("cut off %v before the end of its lease", left)
	}
	h1.eventually("that is verified", func() bool {
		o, ok := h1.guard.Outcome(h1.idOf("db"))
		if ok && o.Verified != 0 {
			return true
		}
		_, err := h1.Mount(t.Context(), "db", "c2", me(t))
		wantError(t, "mount before it is verified", err, ErrUnavailable, "lost its own state")
		return len(h1.guard.Orders()) == 0 // it was verified just now
	})
	_, err = h1.Mount(t.Context(), "db", "c2", me(t))
	wantError(t, "mount after that", err, ErrUnavailable, "lost its own state", "dvold volume release db --from h1")
	if orders := h1.guard.Orders(); len(orders) != 0 {
		t.Errorf("the guard has %v still", orders)
	}
	h1.silence()
	h2.mount("db", "c1", me(t))
	h2.wantOwner("db", "h2", 2)
}

func (l *lease) Deadline() time.Duration { return leased{lease: l}.Deadline() }
