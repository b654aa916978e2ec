package volumes

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/internal/guard"
	"github.com/dvol/dvold/internal/standing"
)

// inPhases checks how many exclusive volumes a host counts in which phase; in
// all others there must be none.
func (n *node) inPhases(want map[standing.Phase]int) bool {
	all := make(map[string]int)
	for _, p := range phases() {
		all[string(p)] = want[p]
	}
	return maps.Equal(n.Stats().Exclusive, all)
}

func TestStats(t *testing.T) {
	f, _ := newFencedFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.settled()
	got := h1.Stats()
	if !got.InCluster || got.Lease != coordination.Never || !got.Reachable || got.Doubted || got.Guarded {
		t.Errorf("stats of a host that is well, without a guard: %+v", got)
	}
	if want := map[string]int{"a": 0, "b": 0}; !maps.Equal(got.Mounted, want) || !maps.Equal(got.Uses, want) {
		t.Errorf("mounted before anything is: %v, uses %v", got.Mounted, got.Uses)
	}
	h1.eventually("it knows that it is not fenced", func() bool { return !h1.Stats().Fenced })

	h1.must(h1.Create(t.Context(), "db", exclusive))
	h1.must(h1.Create(t.Context(), "site", map[string]string{"pool": "b"}))
	h1.mount("db", "c1", me(t))
	h1.mount("db", "c1", me(t)) // as docker cp does
	h1.mount("site", "c1", me(t))
	h1.mount("site", "c2", me(t))
	got = h1.Stats()
	if want := map[string]int{"a": 1, "b": 1}; !maps.Equal(got.Mounted, want) {
		t.Errorf("mounted: %v, want %v", got.Mounted, want)
	}
	if want := map[string]int{"a": 2, "b": 2}; !maps.Equal(got.Uses, want) {
		t.Errorf("uses: %v, want %v", got.Uses, want)
	}
	if !h1.inPhases(map[standing.Phase]int{standing.Held: 1}) {
		t.Errorf("volumes by phase: %v", got.Exclusive)
	}

	h1.silence()
	h1.eventually("db is in doubt", func() bool { return h1.inPhases(map[standing.Phase]int{standing.Doubt: 1}) })
	h1.eventually("the coordinator is away", func() bool { return !h1.Stats().Reachable })
	if got := h1.Stats(); got.InCluster || got.Lease != 0 {
		t.Errorf("stats of a host that is silent: %+v", got)
	}
	h2.mount("db", "c1", me(t))
	if got := h2.Stats(); got.Takeovers != 1 || got.Losses != 0 {
		t.Errorf("takeovers of the taker: %+v", got)
	}
	h1.must(h1.Unmount(t.Context(), "site", "c1"))
	h1.must(h1.Unmount(t.Context(), "site", "c2"))
	h1.heard()
	h1.eventually("it has counted the loss, and has nothing any more", func() bool {
		s := h1.Stats()
		return s.Losses == 1 && s.Mounted["a"] == 0 && s.Uses["a"] == 0 && h1.inPhases(nil)
	})
	h1.eventually("it is let in again", func() bool { return !h1.Stats().Fenced })
	if got := h1.Stats(); got.Takeovers != 0 || !got.InCluster || !got.Reachable {
		t.Errorf("stats of a host that is back: %+v", got)
	}
	h2.must(h2.Unmount(t.Context(), "db", "c1"))
}

// What a host has from an earlier stay counts before it has settled it.
func TestStatsOfEarlierStays(t *testing.T) {
	f, _ := newFencedFleet(t, "h1")
	h1 := f.node("h1")
	h1.must(h1.Create(t.Context(), "db", exclusive))
	h1.mount("db", "c1", me(t))
	h1.die()
	h1.line.fail(away)
	h1.start()
	if got := h1.Stats(); !h1.inPhases(map[standing.Phase]int{unsettled: 1}) || got.Mounted["a"] != 1 || got.Uses["a"] != 1 || got.InCluster {
		t.Errorf("without the coordinator: %+v", got)
	}
	h1.heard()
	h1.eventually("it is settled", func() bool { return h1.inPhases(map[standing.Phase]int{standing.Held: 1}) })
	e, _ := h1.entry("db")
	h1.must(h1.lose(e, "a test says so"))
	h1.eventually("it is cut off", func() bool { return h1.inPhases(nil) && h1.Stats().Losses == 1 })
}

func TestStatsOfDoubt(t *testing.T) {
	f := newFleet(t, "h1")
	h1 := f.node("h1")
	h1.settled()
	f.replaceStore("fresh.db")
	h1.eventually("it doubts the records", func() bool { return h1.Stats().Doubted })
	h1.eventually("it has joined again", func() bool { return h1.Stats().InCluster })
	h1.must(h1.Accept(context.Background()))
	if got := h1.Stats(); got.Doubted || !got.Reachable {
		t.Errorf("once the records are accepted: %+v", got)
	}
}

func TestStatsOfAGuard(t *testing.T) {
	f := newFleet(t, "h1")
	h1 := f.node("h1")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- guard.Run(ctx, guard.Config{Dir: h1.guardDir(), CutTime: time.Second, RebootCommand: "/bin/true"}, h1.cutter, f.log("guard"))
	}()
	h1.eventually("it is guarded", func() bool { return h1.Stats().Guarded })
	stop()
	h1.must(<-ended)
	if h1.Stats().Guarded {
		t.Error("it is guarded after the guard's end")
	}
}
