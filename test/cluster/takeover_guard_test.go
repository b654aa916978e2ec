package cluster_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// A host whose guard has ended promises nothing for the time when dvold has
// ended too: so nobody takes its volumes over by lease. As long as dvold lives,
// it cuts them off by itself.
func TestGuardIsKilled(t *testing.T) {
	c := takeoverCluster(t, 3)
	alone, dead, taker := c.h(1), c.h(2), c.h(3)
	c.atOnce(
		func() error { return alone.writes(c, "shared") },
		func() error { return dead.writes(c, "fenced", "shared") })
	kept, lost, byFence := placeOf("shared", dead), placeOf("shared", alone), placeOf("fenced", dead)
	for _, p := range []place{kept, lost} {
		if o := taker.owner(p.name); !o.Guarded {
			t.Errorf("%s is not guarded, before its guard is killed", p.name)
		}
	}
	for _, h := range []*host{alone, dead, alone} {
		if !h.Guard.Running() {
			h.must(h.Guard.Start(h.ctx))
			taker.wantGuarded(placeOf("shared", h), true)
		}
		began := lab.SinceBoot()
		h.must(h.Guard.Kill())
		taker.wantGuarded(placeOf("shared", h), false)
		took := lab.SinceBoot() - began
		t.Logf("%s tells that its guard is gone after %v", h.Name(), took.Round(time.Millisecond))
		if took > 2*time.Second {
			t.Errorf("%v until %s told that its guard was killed", took, h.Name())
		}
	}

	since := lab.SinceBoot()
	alone.must(alone.Cut(alone.ctx, lab.Consul))
	dead.must(dead.KillDvold())
	taker.wantLive(alone.Name(), false)
	taker.wantLive(dead.Name(), false)
	alone.stopped(lost.name)
	c.wantWriterStopped(lost, alone, since)
	for _, p := range []place{kept, lost} {
		taker.fails("start of what nobody guards", taker.tryBeat(p.name, p.name), "may still write", "no guard", "dvold volume release "+p.name)
		taker.removeContainer(p.name)
		if o := taker.owner(p.name); !hasWords(errors.New(o.Would), "fail", "no guard") {
			t.Errorf("what a mount of %s would do: %q", p.name, o.Would)
		}
	}
	c.atOnce(
		func() error { return c.beatsOn(kept, dead, lab.SinceBoot()) }, // it may indeed
		func() error { return taker.gets(c, byFence, lab.SinceBoot(), machineTime) })

	// A guard that comes back finds that the lease is over.
	c.atOnce(
		func() error { return alone.back(c) },
		func() error { return dead.back(c) })
	now := lab.SinceBoot()
	c.atOnce(
		func() error { return taker.gets(c, kept, now, 2*lease) },
		func() error { return taker.gets(c, lost, now, 2*lease) })
	for p, h := range map[place]*host{kept: dead, lost: alone, byFence: dead} {
		t.Logf("%s: from last to first write: %v", p.name, c.wantOneWriter(p.pool, p.name, h.Name(), taker.Name()))
	}
	for _, h := range c.hosts {
		h.wantReboots(0)
	}
}

// wantGuarded waits until a host sees that the owner of a volume has a guard, or
// that it has none.
func (h *host) wantGuarded(p place, guarded bool) {
	h.t.Helper()
	h.eventually("guard of "+p.name, func() error {
		o, err := h.tryOwner(p.name)
		if err == nil && o.Guarded != guarded {
			err = fmt.Errorf("guarded = %v, want %v", o.Guarded, guarded)
		}
		return err
	})
}
