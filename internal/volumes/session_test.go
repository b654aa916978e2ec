package volumes

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/internal/host/hosttest"
)

func TestHostThatLostItsSessionJoinsAgainByItself(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "data", nil))
	target := h1.mount("data", "c1", me(t))
	for range 5 {
		before := h1.stayNow()
		h1.must(h1.line.loseSession())
		h1.eventually("it has joined again", func() bool { return h1.stayNow() > before })
		if !h1.mounted(target) {
			t.Fatal("the volume was unmounted")
		}
		h1.mount("data", "c2", me(t))
		h1.must(h1.Unmount(t.Context(), "data", "c2"))
		wantError(t, "remove elsewhere", h2.Remove(t.Context(), "data", nil), ErrInUse, `"h1"`)
		h1.must(h1.Create(t.Context(), "more", nil))
		h1.must(h1.Remove(t.Context(), "more", nil))
	}
	h1.must(h1.Unmount(t.Context(), "data", "c1"))
	h1.settled()
	h2.must(h2.Remove(t.Context(), "data", nil))
}

// TestCreateOverALostSession: nobody took the intent back, but the stay that
// announced it is over, so it fails, and nothing is left.
func TestCreateWhoseSessionEndsIsUndoneAndCanBeRepeated(t *testing.T) {
	f := newFleet(t, "h1")
	h1 := f.node("h1")
	for i, step := range []string{"create: intent written", "create: storage made", "create: described"} {
		h1.at(step, func() {
			before := h1.stayNow()
			h1.must(h1.line.loseSession())
			h1.eventually("it has joined again", func() bool { return h1.stayNow() > before })
		})
		wantError(t, step, h1.Create(t.Context(), "data", nil), ErrUnavailable)
		h1.settled()
		if got := f.data(); len(got) != i {
			t.Errorf("%s: the pool holds %v", step, got)
		}
		h1.must(h1.Create(t.Context(), "data", nil))
		h1.must(h1.Remove(t.Context(), "data", nil))
	}
}

func TestHostWhoseNameAnotherMachineHasTakenWritesNothingAndKeepsItsMounts(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	for _, name := range []string{"data", "known"} {
		h1.must(h1.Create(t.Context(), name, nil))
	}
	target := h1.mount("data", "c1", me(t))
	h1.line.fail(away)
	h1.must(h1.line.loseSession())
	impostor, err := f.store.Join(t.Context(), coordination.Host{Name: "h1", ID: "another machine"})
	h1.must(err)
	h1.line.fail(nil)
	h1.eventually("it knows why it is not in the cluster", func() bool {
		_, err := h1.session()
		return err != nil && strings.Contains(err.Error(), "another machine") && h1.reach.err() == nil
	})
	wantError(t, "create", h1.Create(t.Context(), "new", nil), ErrUnavailable, "another machine")
	wantError(t, "remove", h1.Remove(t.Context(), "known", nil), ErrUnavailable, "another machine")
	if v, err := h1.Get(t.Context(), "data"); err != nil || !v.Mounted {
		t.Errorf("get: %+v, %v", v, err)
	}
	h1.mount("data", "c2", me(t))
	h1.mount("known", "c1", me(t))
	if !h1.mounted(target) {
		t.Error("the volume was unmounted")
	}
	h1.must(h1.Unmount(t.Context(), "data", "c2"))
	h1.must(impostor.Close(context.Background()))
	h1.settled()
	if got := h1.heldBy("h1"); !slices.Equal(got, []string{"data", "known"}) {
		t.Errorf("the records say that it holds %v", got)
	}
	for _, name := range []string{"data", "known"} {
		h1.must(h1.Unmount(t.Context(), name, "c1"))
	}
	h1.settled()
	h2.must(h2.Remove(t.Context(), "data", nil))
	h1.must(h1.Create(t.Context(), "new", nil))
}

// The longer the coordinator is away, the less a host looks for it, for a thousand
// others do so too; and yet it is back soon.
func TestLongOutageIsLookedAtSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hosttest.Root(t)
		f := &fleet{t: t, dir: hosttest.Tmpfs(t, "")}
		f.store = f.openStore("cluster.db")
		defer f.end()
		h := f.add("h1").start()
		h.line.fail(away)
		h.must(h.line.loseSession())
		time.Sleep(time.Minute)
		// Each time that the watch of the cluster's record fails, which is one of three, that is read, too.
		looks := func() int { return h.line.count("Get") - h.line.count("Watch")/3 }
		joins, probes := h.line.count("Hosts"), looks()
		const later = 10 * time.Minute
		time.Sleep(later)
		joins, probes = h.line.count("Hosts")-joins, looks()-probes
		t.Logf("in %v: %d attempts to join, %d looks", later, joins, probes)
		// Pauses are never less than half of what they are meant to be.
		if most := int(2 * later / maxJoinPause); joins > most || joins == 0 {
			t.Errorf("%d attempts to join, want at most %d", joins, most)
		}
		if most := int(2*later/maxProbePause) + 3; probes > most || probes == 0 {
			t.Errorf("%d looks, want at most %d", probes, most)
		}
		h.line.fail(nil)
		time.Sleep(3 * maxJoinPause / 2)
		synctest.Wait()
		if s := h.Stats(); !s.InCluster || !s.Reachable {
			t.Errorf("not back: %+v", s)
		}
	})
}

// watched is a coordinator that tells, at each Join, whether the host is live until then.
type watched struct {
	coordination.Coordinator
	live chan bool
}

func (w watched) Join(ctx context.Context, h coordination.Host) (coordination.Session, error) {
	before, err := w.Host(ctx, h.Name)
	if err != nil {
		return nil, err
	}
	w.live <- before.Live
	return w.Coordinator.Join(ctx, h)
}

// A host that was cut off from a volume joins anew, and no other takes it for silent meanwhile: its
// other volumes would be taken, too.
func TestHostThatWasCutOffJoinsAnewWithoutFallingSilent(t *testing.T) {
	f, all := newFencedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	target := h1.mount("db", "c1", me(t))
	live := make(chan bool, 10)
	h1.line.connect(watched{f.store, live})
	before := h1.owner("db")
	p, err := h2.loadProof(t.Context(), before, volumeDomain("lost.0123456789ab"))
	h2.must(err)
	put, err := p.prove("test", caller{"h2", h2.stayNow()}).put(before.Incarnation)
	h2.must(err)
	_, err = h2.commit(t.Context(), put)
	h2.must(err)
	if !<-live {
		t.Error("others took it for silent")
	}
	h1.eventually("the volume is its own in the new stay", func() bool {
		return h1.owner("db").Incarnation > before.Incarnation && len(h1.keys("fences/")) == 0
	})
	h1.wantOwner("db", "h1", 1)
	if !h1.mounted(target) || len(all.log()) > 0 {
		t.Errorf("mounted: %t; %v", h1.mounted(target), all.log())
	}
	h1.must(h1.Unmount(t.Context(), "db", "c1"))
}
