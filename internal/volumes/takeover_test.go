package volumes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination"
)

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
	h1.eventually("it is unfenced", func() bool { return slices.Contains(all.log(), "unfence h1") && len(h1.keys("fences/")) == 0 })
	h1.settled()
	h2.wantOwner("db", "h2", 2)
	h2.must(h2.Unmount(t.Context(), "db", "c1"))
	h1.mount("db", "c1", me(t))
	h1.wantOwner("db", "h1", 3)
}

// TestTakerThatDiesOnTheWay: the next host goes on where it stopped, and h1,
// should it come back meanwhile, has lost the volume.
func TestTakerThatDiesOnTheWayIsReplacedByTheNext(t *testing.T) {
	for _, step := range []string{"takeover: intent written", "turn: taken", "takeover: fenced", "takeover: proof written", "own: owner written", "mount: stamped", "mount: guard told", "mount: mounted"} {
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

// Volumes that one fence covers are taken over at once, by two hosts, with a fence that
// takes its time: the first proof is enough for all.
func TestVolumesOfOneDomainAreTakenByOneFence(t *testing.T) {
	f, all := newFencedFleet(t, "h1", "h2", "h3")
	all.domain = "pool/all"
	all.fail(func(string) error { time.Sleep(100 * time.Millisecond); return nil })
	h1 := f.node("h1")
	var names []string
	for i := range 8 {
		name := fmt.Sprint("db", i)
		names = append(names, name)
		h1.must(h1.Create(t.Context(), name, exclusive))
		h1.mount(name, "c1", me(t))
	}
	h1.silence()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var takers sync.WaitGroup
	for i, name := range names {
		taker := f.node(fmt.Sprint("h", 2+i%2))
		takers.Go(func() {
			if _, err := taker.Mount(ctx, name, "c1", me(t)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	takers.Wait()
	if said := all.log(); len(said) != 1 {
		t.Errorf("fenced: %v, want once", said)
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

func TestTakeoverOptions(t *testing.T) {
	f, all := newFencedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	all.domain = "pool/all"
	for _, how := range []string{"manual", "never", "auto"} {
		h1.must(h1.Create(t.Context(), how, map[string]string{"access": "exclusive", "takeover": how}))
		h1.mount(how, "c1", me(t))
	}
	h1.silence()
	remedies := map[string]string{"manual": "dvold volume release manual --from h1", "never": "dvold host forget h1"}
	refused := func(when string) {
		for how, remedy := range remedies {
			_, err := h2.Mount(t.Context(), how, "c1", me(t))
			wantError(t, how+" "+when, err, ErrUnavailable, "its takeover is "+how, remedy)
			if d, err := h2.Inspect(t.Context(), how); err != nil || !strings.HasPrefix(d.Owner.Would, "fail: ") || !strings.Contains(d.Owner.Would, remedy) {
				t.Errorf("%s %s: a mount would %q (%v)", how, when, d.Owner.Would, err)
			}
		}
	}
	refused("when h1 is silent")
	if len(all.log()) > 0 {
		t.Errorf("fenced: %v", all.log())
	}
	// A fence that covers the host was for another volume, and is no leave.
	h2.mount("auto", "c1", me(t))
	h2.wantOwner("auto", "h2", 2)
	refused("when h1 is cut off")
	wantError(t, "release of never", h2.Release(t.Context(), "never", "h1"), ErrInvalid, "never", "dvold host forget h1")
	h3 := f.add("h3")
	delete(h3.gates, "a") // nor by a host that lacks the pool
	wantError(t, "release of never without the pool", h3.start().Release(t.Context(), "never", "h1"), ErrInvalid, "never")
	h3.must(h3.Release(t.Context(), "manual", "h1"))
	h2.mount("manual", "c1", me(t))
	h2.wantOwner("manual", "h2", 2)
	h2.must(h2.Forget(t.Context(), "h1"))
	h2.mount("never", "c1", me(t))
	h2.wantOwner("never", "h2", 2)
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

// A host that was slower than another finds that one's epoch on the volume: nothing went back in time.
func TestFasterTakerIsNoRecordThatWentBack(t *testing.T) {
	f, _ := newFencedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	r, err := h2.existing(t.Context(), "db")
	h2.must(err)
	session, err := h2.session()
	h2.must(err)
	before := h2.owner("db")
	h1.mount("db", "c1", me(t))
	if err := h2.becomeOwner(t.Context(), session, r, h2.pools[r.Pool], before, nil); !errors.Is(err, coordination.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
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

// forgetful is a coordinator from which proofs that hosts gave of themselves are
// always gone when they are read: as they may be, for they are taken back as soon
// as the host is clean.
type forgetful struct{ coordination.Coordinator }

func (f forgetful) Get(ctx context.Context, key string) (coordination.Record, error) {
	stored, err := f.Coordinator.Get(ctx, key)
	if p, broken := decodeProof(stored); err == nil && broken == nil && p.Method == byItself {
		return coordination.Record{}, coordination.ErrNotFound
	}
	return stored, err
}

// TestOwnerThatOutlivesItsTakerFencesNobody: nor does it fence itself.
func TestOwnerThatOutlivesItsTakerFencesNobody(t *testing.T) {
	f, all := newFencedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	target := h1.mount("db", "c1", me(t))
	h1.silence()
	h2.dieDuring("takeover: fenced", func(ctx context.Context) error {
		_, err := h2.Mount(ctx, "db", "c1", me(t))
		return err
	})
	h1.heard()
	h1.eventually("h1 has lost it", func() bool { return !h1.mounted(target) && len(h1.mountsNow()) == 0 })
	h1.line.connect(forgetful{f.store})
	h1.mount("db", "c1", me(t))
	h1.wantOwner("db", "h1", 2)
	if want := []string{"fence h1", "unfence h1"}; !slices.Equal(all.log(), want) {
		t.Errorf("got %v, want %v", all.log(), want)
	}
}
