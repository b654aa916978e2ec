package cluster_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// idles has a container of the host do nothing with a new exclusive volume.
func (h *host) idles(p place, args ...string) {
	h.t.Helper()
	h.createExclusive(p.pool, p.name, args...)
	h.start(p.name, idle, p.name+":/data")
}

// A host is frozen that has volumes of several pools, and each has to be taken
// from it in its own way.
func TestHazards01And09And12TakeFromFrozenHost(t *testing.T) {
	c := ownTakeoverCluster(t, 3, 1, func(_, configuration string) string {
		return configuration + scriptedPool("wide", "/dfs/wide", "fence_covers: pool") + scriptedPool("narrow", "/dfs/narrow", "fence_covers: volume")
	})
	h1, h2, h3 := c.h(1), c.h(2), c.h(3)
	c.fenceBy("wide", "real")
	c.fenceBy("narrow", "real")
	writers := []place{{"wide", "wide1"}, {"narrow", "narrow1"}}
	for _, p := range writers {
		h1.createExclusive(p.pool, p.name)
		h1.beat(p.name, p.name)
	}
	for _, p := range []place{{"wide", "wide2"}, {"narrow", "narrow2"}, {"narrow", "copied"}, {"narrow", "dying"}} {
		h1.idles(p)
	}
	h1.idles(place{"narrow", "standby"}, "takeover=manual")
	for _, p := range []place{{"narrow", "race"}, {"shared", "lease"}} {
		h1.idles(p, "mount_wait=5s")
	}
	for _, p := range writers {
		c.must(c.beatsOn(p, h1, 0))
	}

	frozen := lab.SinceBoot()
	h1.must(h1.Freeze())
	var leases sync.WaitGroup
	var took [2]time.Duration
	var errs [2]error
	for i, h := range []*host{h2, h3} {
		leases.Go(func() { took[i], errs[i] = h.raceFor("lease", frozen, leaseTakeover+machineTime) })
	}

	t.Run("Hazard01ProofCoversWhatWasCut", func(t *testing.T) {
		c := c.in(t)
		h2 := c.h(2)
		// One fence is enough for a pool, if that is what it covers …
		h2.takeOver("wide1", "wide1", frozen, 3*lease+machineTime)
		h2.takeOver("wide2", "wide2", frozen, 3*lease+machineTime)
		want(t, "fences of pool wide", c.fences("fence h1 wide"), 1)
		c.wantProofs("h1", "pool/wide")
		// … but no other pool, nor another volume where it covers but one.
		h2.takeOver("narrow1", "narrow1", frozen, 3*lease+machineTime)
		want(t, "fences of narrow1", c.fences("fence h1 narrow narrow1"), 1)
		want(t, "fences of pool narrow", c.fences("fence h1 narrow"), 1)
		c.wantProofs("h1", "pool/wide", "volume/narrow/")
		h2.takeOver("narrow2", "narrow2", frozen, 3*lease+machineTime)
		want(t, "fences of narrow2", c.fences("fence h1 narrow narrow2"), 1)
		c.wantProofs("h1", "pool/wide", "volume/narrow/", "volume/narrow/")
	})

	t.Run("TwoTakers", func(t *testing.T) {
		c := c.in(t)
		var both sync.WaitGroup
		errs := make([]error, 2)
		for i, h := range []*host{c.h(2), c.h(3)} {
			both.Go(func() { errs[i] = h.tryBeat("race", "race") })
		}
		both.Wait()
		c.wantOneWinner("race", errs)
		c.h(2).removeContainer("race")
		c.h(3).removeContainer("race")
	})

	t.Run("Hazard12CreateTakesOver", func(t *testing.T) {
		c := c.in(t)
		h2 := c.h(2)
		// A container that is only made has its volume mounted, for what the
		// image has there to be copied. That is a takeover, unless a person is
		// to stand in between.
		create := func(volume string) error {
			_, err := h2.Docker(h2.ctx, "create", "--name", volume, "--volume-driver", "dvol", "-v", volume+":/etc", lab.BusyBox, "true")
			return err
		}
		h2.must(create("copied"))
		if o := h2.owner("copied"); o.State != "free" || o.Epoch != 2 {
			t.Errorf("owner of what a container was made with: %+v, want it free, after epoch 2", o)
		}
		want(t, "fences of copied", c.fences("fence h1 narrow copied"), 1)
		h2.fails("docker create", create("standby"), `owned by host "h1"`, "its takeover is manual", "dvold volume release standby --from h1")
		want(t, "fences of standby", c.fences("fence h1 narrow standby"), 0)
		h2.wantOwner("standby", "h1", 1)
		h2.dvold("volume", "release", "standby", "--from", "h1")
		h2.must(create("standby"))
		if o := h2.owner("standby"); o.State != "free" || o.Epoch != 2 {
			t.Errorf("owner of what was released: %+v, want it free, after epoch 2", o)
		}
		want(t, "fences of standby", c.fences("fence h1 narrow standby"), 0)
	})

	leases.Wait()
	t.Run("TwoTakersByLease", func(t *testing.T) {
		c := c.in(t)
		c.wantOneWinner("lease", errs[:])
		for i, err := range errs {
			t.Logf("taker %d: %v after the freeze: %v", i+1, took[i].Round(time.Millisecond), err)
			if err == nil && took[i] < leaseWait {
				t.Errorf("taker %d did not wait for the end of the lease", i+1)
			}
		}
		c.wantProofs("h1", "pool/wide", "volume/lease.", "volume/narrow/", "volume/narrow/", "volume/narrow/", "volume/narrow/", "volume/standby.")
	})

	t.Run("Hazard09TakerDiesBeforeItRecordsTheFence", func(t *testing.T) {
		c := c.in(t)
		h2, h3 := c.h(2), c.h(3)
		c.fenceBy("narrow", "late")
		died := make(chan error, 1)
		go func() { died <- h3.tryBeat("dying", "dying") }()
		h2.eventually("h3 has fenced h1", func() error {
			_, err := os.Stat(c.Path("shared/late"))
			return err
		})
		h3.must(h3.Kill())
		if err := <-died; err == nil {
			t.Error("a container was started by a host that was killed in its mount")
		}
		if o := h2.owner("dying"); o.State != "fencing" || o.Host != "h1" || o.TakenBy != "h3" || o.Epoch != 1 || o.Proof != "" {
			t.Errorf("owner: %+v, want it h1, about to be taken over by h3, without a proof", o)
		}
		c.fenceBy("narrow", "real")
		h2.takeOver("dying", "dying", lab.SinceBoot(), 3*lease+machineTime)
		h2.wantOwner("dying", "h2", 2)
		want(t, "fences of dying", c.fences("fence h1 narrow dying"), 2)
	})

	// Both come back at once, the owner and a taker. Of the lease that was over
	// long ago the owner's guard makes an end, or one of the machine.
	h1.must(h1.Thaw())
	h1.eventually("end of what it had by lease", func() error {
		is, err := h1.Container(h1.ctx, "lease")
		if h1.Up() && (err != nil || is.State.Running) {
			return fmt.Errorf("running: %v (%v)", is.State.Running, err)
		}
		return nil
	})
	now := lab.SinceBoot()
	c.atOnce(func() error { return h1.back(c) }, func() error { return h3.back(c) })
	for _, p := range writers {
		c.must(c.beatsOn(p, h2, now))
		c.wantOneWriter(p.pool, p.name, "h1", "h2")
	}
	h2.wantOwner("dying", "h2", 2)
	h2.wantOwner("wide2", "h2", 2)
}

// wantProofs checks what a host is proven to write to no more: the domains, or
// how they begin, in order.
func (c *cluster) wantProofs(host string, domains ...string) {
	c.t.Helper()
	keys, err := c.keys("fences/" + host + "/")
	c.must(err)
	slices.Sort(keys)
	if lease := "volume/lease."; !slices.Contains(domains, lease) { // taken over beside, sooner or later
		keys = slices.DeleteFunc(keys, func(key string) bool { return strings.Contains(key, "/"+lease) })
	}
	ok := len(keys) == len(domains)
	for i := 0; ok && i < len(keys); i++ {
		_, domain, _ := strings.Cut(keys[i], "/fences/"+host+"/")
		_, domain, _ = strings.Cut(domain, "/") // after the incarnation
		ok = strings.HasPrefix(domain, domains[i])
	}
	if !ok {
		c.t.Errorf("proofs: %v, want %v", keys, domains)
	}
}

// raceFor has a host start a container with a volume until it, or another, gets
// it from a host that is silent.
func (h *host) raceFor(name string, from, limit time.Duration) (took time.Duration, err error) {
	for {
		err := h.tryBeat(name, name)
		took := lab.SinceBoot() - from
		if err == nil || took > limit {
			return took, err
		}
		h.removeContainer(name)
		if o, lookErr := h.tryOwner(name); lookErr == nil && o.State == "held" && o.Epoch > 1 {
			return took, err
		}
	}
}

// wantOneWinner checks how h2 and h3 have fared that wanted a volume of h1 at the
// same time: one got it, as the next owner, and the other was told so.
func (c *cluster) wantOneWinner(name string, errs []error) {
	c.t.Helper()
	hosts := []*host{c.h(2), c.h(3)}
	for i, err := range errs {
		if err != nil {
			continue
		}
		winner, loser := hosts[i], hosts[1-i]
		loser.fails("start of what another gets", errs[1-i], name, fmt.Sprintf("owned by host %q", winner.Name()), "uses it there") // the winner's answer
		loser.eventually("owner of "+name, func() error {
			o, err := loser.tryOwner(name)
			if err == nil && (o.Host != winner.Name() || o.Epoch != 2) {
				err = fmt.Errorf("%+v, want %s, epoch 2", o, winner.Name())
			}
			return err
		})
		return
	}
	c.t.Errorf("nobody got %s: %v", name, errs)
}

// Sessions end early, and records are forgotten, while who holds a volume can
// hear of neither.
func TestHazards07And13HolderIsForgotten(t *testing.T) {
	c := takeoverCluster(t, 3)
	h1, h2, h3 := c.h(1), c.h(2), c.h(3)
	leased, fenced, frozen := placeOf("shared", h1), placeOf("fenced", h1), placeOf("shared", h3)
	c.atOnce(
		func() error { return h1.writes(c, "shared", "fenced") },
		func() error { return h3.writes(c, "shared") })

	t.Run("Hazard07SessionDestroyed", func(t *testing.T) {
		c := c.in(t)
		h1, h2, h3 := c.h(1), c.h(2), c.h(3)
		cut := lab.SinceBoot()
		h1.must(h1.Cut(h1.ctx, lab.Consul))
		h3.must(h3.FreezeDvold())
		destroyed := c.destroySession(h1)
		c.destroySession(h3)
		c.atOnce(
			func() error { return h2.gets(c, fenced, destroyed, machineTime) }, // at once, by its fence
			func() error { return h2.gets(c, leased, destroyed, leaseWait+machineTime) },
			func() error { return h2.gets(c, frozen, destroyed, leaseWait+machineTime) })
		for p, h := range map[place]*host{leased: h1, frozen: h3} {
			c.wantWriterStopped(p, h, cut)
			first, err := c.firstBeat(p, h2)
			if err != nil || first-destroyed < leaseWait {
				t.Errorf("%s: h2 wrote %v after the session was destroyed (%v), want at least %v: the lease may go on", p.name, first-destroyed, err, leaseWait)
			}
		}
		now := lab.SinceBoot()
		c.atOnce(func() error { return h1.back(c) }, func() error { return h3.back(c) })
		for p, h := range map[place]*host{leased: h1, fenced: h1, frozen: h3} {
			c.must(c.beatsOn(p, h2, now))
			t.Logf("%s: from last to first write: %v", p.name, c.wantOneWriter(p.pool, p.name, h.Name(), "h2"))
			h2.removeContainer(p.name)
		}
	})

	t.Run("Hazard13RecordsForgetAnOwner", func(t *testing.T) {
		c := c.in(t)
		h1, h2, h3 := c.h(1), c.h(2), c.h(3)
		moved := place{"shared", "moved"}
		h1.createExclusive("shared", "moved", "mount_wait=5s")
		h1.beat("moved", "moved")
		c.must(c.beatsOn(moved, h1, 0))
		snapshot := c.snapshot()
		h1.removeContainer("moved")
		h2.takeOver("moved", "moved", lab.SinceBoot(), patience)
		c.must(c.beatsOn(moved, h2, 0))
		h2.wantOwner("moved", "h2", 2)
		// For the records it is h1's again, or nobody's, and h2 doesn't hear it.
		h2.must(h2.Cut(h2.ctx, lab.Consul))
		cut := lab.SinceBoot()
		c.restore(snapshot)
		for _, h := range []*host{h1, h3} {
			h.fails("start of what another has", h.tryBeat("moved", "moved"), "went back in time")
			h.removeContainer("moved")
		}
		h2.stopped("moved") // its lease is over
		c.wantWriterStopped(moved, h2, cut)
		c.believe(h1)
		h3.fails("start of what the records don't know", h3.tryBeat("moved", "moved"), `host "h2"`, "as owner 2", "dvold volume release moved --from h2")
		h3.removeContainer("moved")
		h3.dvold("volume", "release", "moved", "--from", "h2")
		h3.takeOver("moved", "moved", lab.SinceBoot(), patience)
		h3.wantOwner("moved", "h3", 3)
		c.must(h2.back(c))
		c.must(c.beatsOn(moved, h3, lab.SinceBoot()))
		c.wantOneWriter("shared", "moved", "h1", "h2", "h3")
	})
	for _, h := range []*host{h1, h2, h3} {
		h.wantReboots(0)
	}
}

// firstBeat is when a host wrote the first of its beats that have reached a
// volume.
func (c *cluster) firstBeat(p place, h *host) (time.Duration, error) {
	beats, err := c.beatsOf(p.pool, p.name)
	for _, b := range beats {
		if b.Host == h.Name() {
			return b.At, err
		}
	}
	return 0, errors.Join(err, fmt.Errorf("%s wrote nothing", h.Name()))
}

// believe has the hosts believe the records, if that takes an operator.
func (c *cluster) believe(h *host) {
	c.t.Helper()
	if ask[show](h, "cluster", "show").Problem != "" {
		h.dvold("cluster", "accept")
	}
	h.wantBelief()
}
