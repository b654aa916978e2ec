package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/guard"
	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/internal/standing"
)

// newFencedFleet is newFleet whose shared pool can fence.
func newFencedFleet(t *testing.T, names ...string) (*fleet, *fences) {
	t.Helper()
	t.Parallel()
	hosttest.Root(t)
	all := &fences{cut: make(map[string]bool)}
	f := &fleet{t: t, dir: hosttest.Dir(t)}
	f.store = f.openStore("cluster.db")
	t.Cleanup(f.end)
	for _, name := range names {
		n := f.add(name)
		n.fencer = &fencer{all, name}
		n.terms = Exclusive{Takeover: TakeoverAuto, OnSessionLoss: standing.Keep, MountWait: 5 * time.Second}
		n.start()
	}
	return f, all
}

var exclusive = map[string]string{"access": "exclusive"}

// owner is the record of who owns the volume.
func (n *node) owner(name string) owner {
	n.t.Helper()
	r, err := n.existing(context.Background(), name)
	n.must(err)
	o, err := n.loadOwner(context.Background(), r.ID)
	n.must(err)
	return o
}

func (n *node) wantOwner(name, host string, epoch uint64) {
	n.t.Helper()
	o := n.owner(name)
	if got := o.Host; got != host || o.Epoch != epoch {
		n.t.Errorf("%q is owned by %q, epoch %d (%s); want %q, %d", name, got, o.Epoch, o.State, host, epoch)
	}
}

// silence ends the host's session and keeps it from joining again.
func (n *node) silence() {
	n.t.Helper()
	n.line.fail(away)
	n.line.mu.Lock()
	joined := n.line.joined
	n.line.mu.Unlock()
	n.must(joined.Close(context.Background()))
	n.eventually(n.name+" knows that it is out", func() bool { _, err := n.session(); return err != nil })
}

// heard lets it join again.
func (n *node) heard() {
	n.t.Helper()
	n.line.fail(nil)
	n.eventually(n.name+" is back", func() bool { _, err := n.session(); return err == nil && n.reach.err() == nil })
}

func TestExclusiveVolumeMovesWithItsContainer(t *testing.T) {
	f, all := newFencedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	h1.write(h1.mount("db", "c1", me(t)), "row", "one")
	h1.wantOwner("db", "h1", 1)
	h1.mount("db", "c2", me(t)) // again on the same host
	got := make(chan error, 1)
	go func() {
		_, err := h2.Mount(t.Context(), "db", "c1", me(t))
		got <- err
	}()
	h1.eventually("h1 was asked and has answered", func() bool {
		o, err := h2.Inspect(t.Context(), "db")
		return err == nil && o.Owner.Host == "h1" && len(h1.keys("requests/h1/")) == 1
	})
	h1.must(h1.Unmount(t.Context(), "db", "c2"))
	select {
	case err := <-got:
		t.Fatalf("mounted on both: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	h1.must(h1.Unmount(t.Context(), "db", "c1"))
	h1.must(<-got)
	if text := h2.read(h2.target(h2.idOf("db")), "row"); text != "one" {
		t.Errorf("h2 reads %q", text)
	}
	h2.wantOwner("db", "h2", 2)
	if keys := h1.keys("requests/"); len(keys) != 0 {
		t.Errorf("requests are left: %v", keys)
	}
	h2.must(h2.Unmount(t.Context(), "db", "c1"))
	h2.settled()
	h1.settled()
	if o := h1.owner("db"); o.State != ownerFree || o.Epoch != 2 {
		t.Errorf("owner: %+v", o)
	}
	if said := all.log(); len(said) > 0 {
		t.Errorf("fenced: %v", said)
	}
	h1.must(h1.Remove(t.Context(), "db", nil))
	v, err := h2.Restore(t.Context(), "db", "")
	h2.must(err)
	h2.mount(v.Name, "c1", me(t))
	h2.wantOwner("db", "h2", 3) // the epoch outlives a removal
	h2.must(h2.Unmount(t.Context(), "db", "c1"))
	h2.must(h2.Remove(t.Context(), "db", nil))
	_, err = h2.Purge(t.Context(), v.ID)
	h2.must(err)
	if keys := h1.keys("owners/"); len(keys) != 0 {
		t.Errorf("owners are left: %v", keys)
	}
}

func (n *node) idOf(name string) string {
	n.t.Helper()
	v, err := n.Get(context.Background(), name)
	n.must(err)
	return v.ID
}

func TestMountOfWhatALiveHostOwnsIsRefusedAfterAWhile(t *testing.T) {
	f, _ := newFencedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "db", map[string]string{"access": "exclusive", "mount_wait": "300ms"}))
	target := h1.mount("db", "c1", me(t))
	_, err := h2.Mount(t.Context(), "db", "c1", me(t))
	wantError(t, "mount", err, ErrInUse, `host "h1"`, "since", "a container uses it there")
	wantError(t, "remove", h2.Remove(t.Context(), "db", nil), ErrInUse, `"h1"`)
	wantError(t, "release", h2.Release(t.Context(), "db", "h1"), ErrInUse, "live")
	if !h1.mounted(target) {
		t.Error("unmounted on h1")
	}
	h2.settled()
	h1.wantOwner("db", "h1", 1)
	if n := len(h2.mountsNow()); n > 0 {
		t.Errorf("h2 has %d mounts", n)
	}
}

func TestSilentOwnerIsFencedAndReplaced(t *testing.T) {
	f, all := newFencedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	target := h1.mount("db", "c1", me(t))
	h1.silence()
	all.fail(func(string) error { return errSwitch })
	_, err := h2.Mount(t.Context(), "db", "c1", me(t))
	wantError(t, "mount", err, ErrUnavailable, `"h1"`, "not cut off", errSwitch.Error())
	if o := h2.owner("db"); o.Host != "h1" || o.State != ownerFencing {
		t.Errorf("after a fence that failed: %+v", o)
	}
	all.fail(nil)
	h2.mount("db", "c1", me(t))
	h2.wantOwner("db", "h2", 2)
	if !slices.Contains(all.log(), "fence h1") || !all.cut["h1"] {
		t.Errorf("not fenced: %v", all.log())
	}
	if !h1.mounted(target) {
		t.Error("h1 keeps what it has until it knows")
	}
	h1.heard()
	h1.eventually("h1 gives up what it lost", func() bool { return !h1.mounted(target) && len(h1.mountsNow()) == 0 })
	h1.eventually("it is unfenced", func() bool { return slices.Contains(all.log(), "unfence h1") })
	h1.settled()
	if keys := h1.keys("fences/"); len(keys) != 0 {
		t.Errorf("proofs are left: %v", keys)
	}
	h2.wantOwner("db", "h2", 2)
	h2.must(h2.Unmount(t.Context(), "db", "c1"))
	h1.mount("db", "c1", me(t))
	h1.wantOwner("db", "h1", 3)
}

func TestOwnerThatComesBackInTimeGoesOn(t *testing.T) {
	f, all := newFencedFleet(t, "h1", "h2")
	h1 := f.node("h1")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	target := h1.mount("db", "c1", me(t))
	before := h1.owner("db").Incarnation
	h1.silence()
	_, err := h1.Mount(t.Context(), "other", "c1", me(t))
	wantError(t, "mount of a new one", err, ErrUnavailable)
	h1.heard()
	h1.eventually("it is its owner again", func() bool { o := h1.owner("db"); return o.Incarnation > before && o.Host == "h1" })
	h1.wantOwner("db", "h1", 1)
	if !h1.mounted(target) || len(all.log()) > 0 {
		t.Errorf("mounted: %t, %v", h1.mounted(target), all.log())
	}
	h1.mount("db", "c2", me(t))
	// and over a restart of dvold
	h1.stop()
	h1.start()
	h1.eventually("it is its owner again", func() bool { o, ok := h1.owned("db"); return ok && o.epoch == 1 })
	h1.must(h1.Unmount(t.Context(), "db", "c1"))
	h1.must(h1.Unmount(t.Context(), "db", "c2"))
	h1.settled()
	if o := h1.owner("db"); o.State != ownerFree {
		t.Errorf("owner: %+v", o)
	}
}

// TestTakerThatDiesOnTheWay: the next host goes on where it stopped, and h1,
// should it come back meanwhile, has lost the volume.
func TestTakerThatDiesOnTheWayIsReplacedByTheNext(t *testing.T) {
	for _, step := range []string{"takeover: intent written", "takeover: fenced", "takeover: proof written", "own: owner written", "mount: stamped", "mount: guard told", "mount: mounted"} {
		t.Run(strings.ReplaceAll(step, " ", "-"), func(t *testing.T) {
			f, all := newFencedFleet(t, "h1", "h2", "h3")
			h1, h2, h3 := f.node("h1"), f.node("h2"), f.node("h3")
			h1.must(h1.Create(t.Context(), "db", exclusive))
			target := h1.mount("db", "c1", me(t))
			h1.silence()
			h2.dieDuring(step, func(ctx context.Context) error {
				_, err := h2.Mount(ctx, "db", "c1", me(t))
				return err
			})
			h1.heard()
			h1.eventually("h1 has lost it", func() bool { return !h1.mounted(target) && len(h1.mountsNow()) == 0 })
			h3.mount("db", "c1", me(t))
			if o := h3.owner("db"); o.Host != "h3" || o.Epoch < 2 {
				t.Errorf("owner: %+v", o)
			}
			h2.start().eventually("h2 has settled", func() bool { return len(h2.mountsNow()) == 0 })
			h3.must(h3.Unmount(t.Context(), "db", "c1"))
			for _, n := range f.nodes {
				n.eventually(n.name+" is clean", func() bool { return len(n.keys("fences/")) == 0 && len(n.keys("holders/")) == 0 })
			}
			t.Log(all.log())
		})
	}
}

func TestTwoTakersAndOneGetsIt(t *testing.T) {
	f, all := newFencedFleet(t, "h1", "h2", "h3")
	h1 := f.node("h1")
	h1.must(h1.Create(t.Context(), "db", map[string]string{"access": "exclusive", "mount_wait": "500ms"}))
	h1.mount("db", "c1", me(t))
	h1.silence()
	errs := f.together(func(n *node) error {
		if n == h1 {
			return errors.New("it is not asked")
		}
		_, err := n.Mount(t.Context(), "db", "c1", me(t))
		return err
	})
	if (errs["h2"] == nil) == (errs["h3"] == nil) {
		t.Errorf("%v", errs)
	}
	f.node("h2").wantOwner("db", map[bool]string{true: "h2", false: "h3"}[errs["h2"] == nil], 2)
	if said := all.log(); len(said) != 1 {
		t.Errorf("fenced: %v", said)
	}
}

func TestOperatorReleasesWhatASilentHostOwns(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	h1.mount("db", "c1", me(t))
	h1.silence()
	_, err := h2.Mount(t.Context(), "db", "c1", me(t))
	wantError(t, "mount", err, ErrUnavailable, `"h1"`, "silent", "dvold volume release db --from h1")
	wantError(t, "release of the wrong host's", h2.Release(t.Context(), "db", "h3"), ErrInvalid, `"h1"`)
	h2.must(h2.Release(t.Context(), "db", "h1"))
	wantError(t, "again", h2.Release(t.Context(), "db", "h1"), ErrInvalid, "nobody")
	h2.mount("db", "c1", me(t))
	h2.wantOwner("db", "h2", 2)
	h1.heard()
	h1.eventually("h1 has lost it", func() bool { return len(h1.mountsNow()) == 0 })
	h2.wantOwner("db", "h2", 2)
}

func TestForgottenHostOwnsNothing(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	h1.mount("db", "c1", me(t))
	h1.die()
	h2.must(h2.Forget(t.Context(), "h1"))
	h2.mount("db", "c1", me(t))
	h2.wantOwner("db", "h2", 2)
}

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

// TestGuardComesAndGoes: the records say so of what is mounted already.
func TestGuardComesAndGoes(t *testing.T) {
	h1, h2, _ := leaseFleet(t, 20*time.Second)
	h1.mount("db", "c1", me(t))
	for range 2 {
		if h2.owner("db").Terms.Guarded {
			t.Error("guarded, without a guard")
		}
		end := h1.guarded()
		h2.eventually("guarded", func() bool { return h2.owner("db").Terms.Guarded })
		end()
		h2.eventually("not guarded any more", func() bool { return !h2.owner("db").Terms.Guarded })
	}
	h2.wantOwner("db", "h1", 1)
	h1.must(h1.Unmount(t.Context(), "db", "c1"))
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

func (l *lease) Deadline() time.Duration { return leased{lease: l}.Deadline() }

func TestTakeoverOptions(t *testing.T) {
	f, all := newFencedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	for _, how := range []string{"manual", "never"} {
		h1.must(h1.Create(t.Context(), how, map[string]string{"access": "exclusive", "takeover": how}))
		h1.mount(how, "c1", me(t))
	}
	h1.silence()
	for _, how := range []string{"manual", "never"} {
		_, err := h2.Mount(t.Context(), how, "c1", me(t))
		wantError(t, how, err, ErrUnavailable, "its takeover is "+how)
	}
	if len(all.log()) > 0 {
		t.Errorf("fenced: %v", all.log())
	}
	wantError(t, "release of never", h2.Release(t.Context(), "never", "h1"), ErrInvalid, "never")
	for _, bad := range []string{"takeover=perhaps", "mount_wait=2h", "mount_wait=soon"} {
		name, value, _ := strings.Cut(bad, "=")
		wantError(t, bad, h2.Create(t.Context(), "bad", map[string]string{"access": "exclusive", name: value}), ErrInvalid, name)
	}
	wantError(t, "shared with takeover", h2.Create(t.Context(), "bad", map[string]string{"takeover": "auto"}), ErrInvalid, "exclusive")
}

func TestRecordsThatWentBackAreNoticedByTheStamp(t *testing.T) {
	f, _ := newFencedFleet(t, "h1")
	h1 := f.node("h1")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	for i := range 3 {
		h1.mount("db", fmt.Sprint("c", i), me(t))
		h1.must(h1.Unmount(t.Context(), "db", fmt.Sprint("c", i)))
	}
	o := h1.owner("db")
	old := o
	old.Epoch = 1
	put, err := old.put()
	h1.must(err)
	_, err = h1.commit(t.Context(), put)
	h1.must(err)
	_, err = h1.Mount(t.Context(), "db", "c1", me(t))
	wantError(t, "mount", err, ErrUnavailable, "went back in time", "owner 3", "dvold volume release db --from h1")
	h1.must(h1.Release(t.Context(), "db", "h1"))
	h1.mount("db", "c1", me(t))
	h1.wantOwner("db", "h1", 4)
}

// TestVolumeThatIsLostDuringItsMount: whatever step of a mount the loss falls
// into, the mount is not answered, and nothing of it is left.
func TestVolumeThatIsLostDuringItsMountIsNotHandedOut(t *testing.T) {
	for _, step := range []string{"mount: guard told", "mount: mountpoint made", "mount: mounted", "mount: use written"} {
		t.Run(strings.ReplaceAll(step, " ", "-"), func(t *testing.T) {
			f, _ := newFencedFleet(t, "h1")
			h1 := f.node("h1")
			h1.must(h1.Create(t.Context(), "db", exclusive))
			h1.at(step, func() {
				e, _ := h1.entry("db")
				h1.must(h1.lose(e, "the test says so"))
			})
			_, err := h1.Mount(t.Context(), "db", "c1", me(t))
			wantError(t, "mount", err, ErrUnavailable, "the test says so")
			h1.eventually("nothing is left", func() bool { return len(h1.mountsNow()) == 0 && !h1.mounted(h1.target(h1.idOf("db"))) })
			h1.settled()
			h1.mount("db", "c1", me(t))
		})
	}
}

// TestNothingElseIsServedBefore: a host that is back cuts what it lost before it
// becomes the owner of anything.
func TestHostThatIsBackServesNothingBeforeWhatItLostIsCut(t *testing.T) {
	f, _ := newFencedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	for _, name := range []string{"lost", "other"} {
		h1.must(h1.Create(t.Context(), name, exclusive))
	}
	target := h1.mount("lost", "c1", me(t))
	busy, err := os.Open(target) // what the cut has to wait for: it belongs to this process
	h1.must(err)
	defer busy.Close()
	h1.silence()
	h2.mount("lost", "c1", me(t))
	h1.heard()
	h1.eventually("h1 knows", func() bool { e, _ := h1.entry("lost"); return e.Lost != "" })
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err = h1.Mount(short, "other", "c1", me(t))
	wantError(t, "mount meanwhile", err, ErrUnavailable)
	h1.must(busy.Close())
	h1.mount("other", "c1", me(t))
	if h1.mounted(target) {
		t.Error("what was lost is mounted still")
	}
}

// TestUnmountedIsNotReleased: umount(2) says nothing of another mount namespace
// that has a copy of the mount, in which somebody works.
func TestVolumeThatIsUnmountedIsReleasedOnlyOnceItIsGone(t *testing.T) {
	f, _ := newFencedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "db", map[string]string{"access": "exclusive", "mount_wait": "1s"}))
	target := h1.mount("db", "c1", me(t))
	monitor := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", "cd "+target+" && echo here && exec sleep 100")
	hosttest.Start(t, monitor)
	h1.must(h1.Unmount(t.Context(), "db", "c1"))
	h1.eventually("it is being released", func() bool { return h1.owner("db").State == ownerReleasing })
	if o := h1.owner("db"); !strings.Contains(o.Problem, fmt.Sprint(monitor.Process.Pid)) {
		t.Errorf("who is in the way: %q, want process %d", o.Problem, monitor.Process.Pid)
	}
	_, err := h2.Mount(t.Context(), "db", "c1", me(t))
	wantError(t, "mount elsewhere", err, ErrInUse, `"h1"`, "can't let go of it", fmt.Sprint(monitor.Process.Pid))
	h1.must(monitor.Process.Kill())
	monitor.Wait()
	h1.poke()
	h2.eventually("h2 gets it", func() bool { _, err := h2.Mount(t.Context(), "db", "c1", me(t)); return err == nil })
	h2.wantOwner("db", "h2", 2)
}

// TestMountThatIsBusyIsBeingReleased: who works in a volume keeps it from being
// unmounted at all. Once a container needs it here again, it is as it was.
func TestMountThatIsBusyIsBeingReleased(t *testing.T) {
	f, _ := newFencedFleet(t, "h1")
	h1 := f.node("h1")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	target := h1.mount("db", "c1", me(t))
	admin := exec.Command("sh", "-c", "echo here && exec sleep 100")
	admin.Dir = target
	hosttest.Start(t, admin)
	h1.must(h1.Unmount(t.Context(), "db", "c1"))
	if o := h1.owner("db"); o.State != ownerReleasing || !strings.Contains(o.Problem, fmt.Sprint(admin.Process.Pid)) {
		t.Errorf("owner: %s, %q; want it releasing, for process %d", o.State, o.Problem, admin.Process.Pid)
	}
	h1.mount("db", "c2", me(t))
	if o := h1.owner("db"); o.State != ownerHeld || o.Problem != "" || o.Epoch != 1 {
		t.Errorf("owner: %s, epoch %d, %q; want it held, 1", o.State, o.Epoch, o.Problem)
	}
	h1.must(admin.Process.Kill())
	admin.Wait()
	h1.must(h1.Unmount(t.Context(), "db", "c2"))
	if o := h1.owner("db"); o.State != ownerFree {
		t.Errorf("owner: %s, want it free", o.State)
	}
}

// TestLiveHostThatWasCutOff: its machine seemed to be down, and it did not answer
// in time. It finds out, gives up what it lost, goes on with the rest, and is let
// in again.
func TestLiveHostThatWasCutOffJoinsAnew(t *testing.T) {
	f, all := newFencedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	for _, name := range []string{"lost", "kept"} {
		h1.must(h1.Create(t.Context(), name, exclusive))
	}
	lost, kept := h1.mount("lost", "c1", me(t)), h1.mount("kept", "c1", me(t))
	before := h1.stayNow()
	r, err := h2.existing(t.Context(), "lost")
	h2.must(err)
	session, err := h2.session()
	h2.must(err)
	h2.must(h2.takeOver(t.Context(), session, r, h2.pools["a"], h2.owner("lost")))
	h1.eventually("it gave up what it lost", func() bool { return !h1.mounted(lost) })
	h1.eventually("it joined anew", func() bool { return h1.stayNow() > before })
	h1.eventually("it is let in again", func() bool { return slices.Contains(all.log(), "unfence h1") && len(h1.keys("fences/")) == 0 })
	if !h1.mounted(kept) {
		t.Error("what nobody took is gone, too")
	}
	h1.wantOwner("kept", "h1", 1)
	h1.wantOwner("lost", "h2", 2)
}

// TestFenceOfATakerThatDied: the taker died when its fence may have been done.
// The old owner has nothing of the volume until that is undone, and undoes it.
func TestFenceOfATakerThatDiedIsUndoneByTheOldOwner(t *testing.T) {
	for _, step := range []string{"takeover: intent written", "takeover: fenced"} {
		t.Run(strings.ReplaceAll(step, " ", "-"), func(t *testing.T) {
			f, all := newFencedFleet(t, "h1", "h2")
			h1, h2 := f.node("h1"), f.node("h2")
			h1.must(h1.Create(t.Context(), "db", exclusive))
			target := h1.mount("db", "c1", me(t))
			h1.silence()
			h2.dieDuring(step, func(ctx context.Context) error {
				_, err := h2.Mount(ctx, "db", "c1", me(t))
				return err
			})
			h1.heard()
			h1.eventually("h1 has lost it", func() bool { return !h1.mounted(target) && len(h1.mountsNow()) == 0 })
			h1.mount("db", "c1", me(t))
			if all.cut["h1"] {
				t.Errorf("it is cut off: %v", all.log())
			}
			h1.wantOwner("db", "h1", 2)
			h1.eventually("the proofs are taken back", func() bool { return len(h1.keys("fences/")) == 0 })
		})
	}
}
