package volumes

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

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

// TestMountpointThatIsWrittenTo: what somebody writes where a lost volume was mounted
// is left alone, and the volume forgotten when it is gone.
func TestMountpointOfLostVolumeThatIsWrittenTo(t *testing.T) {
	f, _ := newFencedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	target := h1.mount("db", "c1", me(t))
	stray := filepath.Join(target, "stray")
	h1.at("lose: cut verified", func() { h1.must(os.WriteFile(stray, []byte("x"), 0o600)) })
	h1.silence()
	h2.mount("db", "c1", me(t))
	h1.heard()
	said := func() string {
		h1.mu.RLock()
		defer h1.mu.RUnlock()
		return h1.kept["db"]
	}
	h1.eventually("it says why", func() bool { return strings.Contains(said(), target) && strings.Contains(said(), "move it away") })
	time.Sleep(3 * tendInterval)
	if _, err := os.Lstat(stray); err != nil {
		t.Errorf("what was written there is gone: %v", err)
	}
	h1.must(os.Remove(stray))
	h1.eventually("it is forgotten", func() bool { return len(h1.mountsNow()) == 0 && said() == "" })
	h1.wantOwner("db", "h2", 2)
}

// TestSecondUseDoesNotMountWhatWasCut: the guard has unmounted a volume, and dvold has not noticed yet.
func TestSecondUseDoesNotMountWhatWasCut(t *testing.T) {
	f, _ := newFencedFleet(t, "h1")
	h1 := f.node("h1")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	target := h1.mount("db", "c1", me(t))
	h1.must(unix.Unmount(target, 0))
	_, err := h1.Mount(t.Context(), "db", "c2", me(t))
	wantError(t, "second use", err, ErrUnavailable, "being cut off")
	if h1.mounted(target) {
		t.Error("mounted again")
	}
	h1.eventually("it is forgotten", func() bool { return len(h1.mountsNow()) == 0 })
	h1.mount("db", "c2", me(t))
}

// TestSecondUseIsNotServedWhenTheLeaseIsOver: it is over, and dvold has not noticed yet.
func TestSecondUseIsNotServedWhenTheLeaseIsOver(t *testing.T) {
	h1, _, _ := leaseFleet(t, time.Hour)
	h1.mount("db", "c1", me(t))
	h1.at("mount: mounted", func() { h1.lapse("db") })
	_, err := h1.Mount(t.Context(), "db", "c2", me(t))
	wantError(t, "second use", err, ErrUnavailable, "lost it")
}

// lapse ends the lease of a volume now, as far as dvold knows.
func (n *node) lapse(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	o := n.ownerships[name]
	o.state.Deadline = n.now() - time.Millisecond
	n.ownerships[name] = o
}

// TestRenewalThatComesTooLateRevivesNothing: what is over is lost, though the next renewal is the first to
// find that out.
func TestRenewalThatComesTooLateRevivesNothing(t *testing.T) {
	h1, _, _ := leaseFleet(t, time.Hour)
	target := h1.mount("db", "c1", me(t))
	o, _ := h1.owned("db")
	h1.lapse("db")
	h1.renewed(o.incarnation, h1.now()+time.Hour)
	if e, _ := h1.entry("db"); e.Lost == "" {
		t.Error("it is not lost")
	}
	h1.eventually("it is cut off", func() bool { return !h1.mounted(target) })
}

// TestGuardIsToldOfALossLater: dvold was killed in between, or the disk was full.
func TestGuardIsToldOfALossLater(t *testing.T) {
	f, _ := newFencedFleet(t, "h1")
	h1 := f.node("h1")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	target := h1.mount("db", "c1", me(t))
	e, _ := h1.entry("db")
	e.Lost = "the test says so"
	h1.must(h1.record(e))
	h1.eventually("it is cut off, and forgotten", func() bool { return !h1.mounted(target) && len(h1.mountsNow()) == 0 })
	h1.mount("db", "c1", me(t))
}
