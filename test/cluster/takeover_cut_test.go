package cluster_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// Three hosts are cut off from Consul, and have their storage still: one with a
// dvold that lives, one whose dvold is killed, and one whose dvold is frozen. So
// of the last two only the guards can stop the writers.
func TestCutOffFromConsul(t *testing.T) {
	c := takeoverCluster(t, 4)
	victims, taker := c.hosts[:3], c.h(4)
	lives, killed, frozen := c.h(1), c.h(2), c.h(3)
	var begin, byLease, byFence, back []func() error
	var leases, fences []place
	for _, h := range victims {
		begin = append(begin, func() error { return h.writes(c, "fenced", "silent", "shared") })
		back = append(back, func() error { return h.back(c) })
		leases = append(leases, placeOf("silent", h), placeOf("shared", h))
		fences = append(fences, placeOf("fenced", h))
	}
	c.atOnce(begin...)

	since := lab.SinceBoot()
	for _, h := range victims {
		h.must(h.Cut(h.ctx, lab.Consul))
	}
	killed.must(killed.KillDvold())
	frozen.must(frozen.FreezeDvold())

	for _, p := range leases {
		byLease = append(byLease, func() error { return taker.gets(c, p, since, leaseTakeover+machineTime) })
	}
	c.atOnce(byLease...)
	// Who goes on must: a fence would stop them at any time.
	for _, h := range victims {
		c.atOnce(func() error { return c.beatsOn(placeOf("fenced", h), h, lab.SinceBoot()) })
	}
	lives.stopped(placeOf("silent", lives).name)
	lives.stopped(placeOf("shared", lives).name)
	now := lab.SinceBoot()
	for _, p := range fences {
		byFence = append(byFence, func() error { return taker.gets(c, p, now, machineTime) })
	}
	c.atOnce(byFence...)

	// The taker writes on until the last of what others have in flight is there.
	healed := lab.SinceBoot()
	c.atOnce(back...)
	for _, h := range victims {
		for _, pool := range []string{"silent", "shared"} {
			c.wantWriterStopped(placeOf(pool, h), h, since)
		}
		for _, pool := range []string{"fenced", "silent", "shared"} {
			p := placeOf(pool, h)
			c.atOnce(func() error { return c.beatsOn(p, taker, healed) })
			t.Logf("%s: from last to first write: %v", p.name, c.wantOneWriter(p.pool, p.name, h.Name(), taker.Name()))
			h.wantOwner(p.name, taker.Name(), 2)
		}
		h.wantReboots(0)
	}
	// They get back what they had.
	taker.removeContainers()
	c.atOnce(
		func() error { return lives.again(c, "fenced") },
		func() error { return killed.again(c, "silent") },
		func() error { return frozen.again(c, "shared") })
	lives.wantOwner("fenced-h1", "h1", 3)
}

// again starts the writer in a pool of a host that was cut off.
func (h *host) again(c *cluster, pool string) error {
	p := placeOf(pool, h)
	if err := h.RemoveContainers(h.ctx, p.name); err != nil {
		return err
	}
	now := lab.SinceBoot()
	if err := h.tryBeat(p.name, p.name); err != nil {
		return err
	}
	return c.beatsOn(p, h, now)
}

// wantReboots checks how often a host has rebooted by itself.
func (h *host) wantReboots(n int) []time.Duration {
	h.t.Helper()
	all, err := h.Reboots()
	if err != nil || len(all) != n {
		h.t.Errorf("%s rebooted %d times (%v), want %d times", h.Name(), len(all), err, n)
	}
	return all
}

// A host that is cut off from its storage too can't tell what is still on its
// way there: it has to reboot, in time, whoever of dvold and the guard is left to
// do it; but not for what a taker has to fence, or for what it can verify.
func TestCutOffFromConsulAndStorage(t *testing.T) {
	c := takeoverCluster(t, 4)
	victims, taker := c.hosts[:3], c.h(4)
	lives, killed, frozen := c.h(1), c.h(2), c.h(3)
	pools := map[*host][]string{lives: {"silent"}, killed: {"silent"}, frozen: {"fenced", "shared"}}
	var begin, take, back []func() error
	since := time.Duration(0)
	for _, h := range victims {
		begin = append(begin, func() error { return h.writes(c, pools[h]...) })
		back = append(back, func() error { return h.back(c) })
		for _, pool := range pools[h] {
			take = append(take, func() error { return taker.gets(c, placeOf(pool, h), since, leaseTakeover+machineTime) })
		}
	}
	c.atOnce(begin...)

	since = lab.SinceBoot()
	lives.must(lives.Cut(lives.ctx, lab.Consul))
	for _, h := range victims {
		h.must(h.Cut(h.ctx, lab.Storage))
	}
	killed.must(killed.KillDvold()) // which cuts it off from Consul as well
	frozen.must(frozen.Cut(frozen.ctx, lab.Consul))
	frozen.must(frozen.FreezeDvold())
	c.atOnce(take...)

	for _, h := range []*host{lives, killed} {
		for _, at := range h.wantReboots(1) {
			t.Logf("%s rebooted %v after it was cut off", h.Name(), at-since)
			if limit := leaseWait; at-since > limit { // before a taker may begin
				t.Errorf("%s rebooted %v after it was cut off, want at most %v", h.Name(), at-since, limit)
			}
		}
		if h.Up() {
			t.Errorf("%s is up", h.Name())
		}
	}
	frozen.wantReboots(0)

	healed := lab.SinceBoot()
	c.atOnce(back...)
	c.wantWriterStopped(placeOf("shared", frozen), frozen, since)
	for _, h := range victims {
		for _, pool := range pools[h] {
			p := placeOf(pool, h)
			c.atOnce(func() error { return c.beatsOn(p, taker, healed) })
			t.Logf("%s: from last to first write: %v", p.name, c.wantOneWriter(p.pool, p.name, h.Name(), taker.Name()))
			h.wantOwner(p.name, taker.Name(), 2)
		}
	}
	taker.removeContainers()
	c.atOnce(
		func() error { return lives.again(c, "silent") },
		func() error { return killed.again(c, "silent") },
		func() error { return frozen.again(c, "fenced") })
}

// A host that is cut off from the storage alone is live: nobody takes anything
// over, and once it is back, its writers go on where they were.
func TestCutOffFromStorage(t *testing.T) {
	c := takeoverCluster(t, 2)
	h1, h2 := c.h(1), c.h(2)
	pools := []string{"fenced", "silent"}
	for _, pool := range pools {
		// Longer than a lease: nothing must end meanwhile.
		h1.createExclusive(pool, placeOf(pool, h1).name, fmt.Sprint("mount_wait=", lease+2*time.Second))
		h1.beat(placeOf(pool, h1).name, placeOf(pool, h1).name)
	}
	c.atOnce(func() error { return h1.writes(c, "shared") })
	since := lab.SinceBoot()
	h1.must(h1.Cut(h1.ctx, lab.Storage))
	refused := make(chan error, len(pools))
	for _, pool := range pools {
		name := placeOf(pool, h1).name
		go func() { refused <- h2.tryBeat(name, name) }()
	}
	c.atOnce(func() error { return c.beatsOn(placeOf("shared", h1), h1, lab.SinceBoot()) })
	for _, args := range [][]string{{"ps", "--format", "{{.Names}}"}, {"volume", "ls", "-q"}} {
		h1.within(prompt, "docker "+args[0], func() error {
			out, err := h1.Docker(h1.ctx, args...)
			if err == nil && !strings.Contains(out, "silent-h1") {
				err = errors.New(out)
			}
			return err
		})
	}
	h1.createExclusive("shared", "other") // other pools are as ever
	h1.within(soon, "docker run with a volume of another pool", func() error {
		_, err := h1.trySh("other", "echo 1 >/data/file")
		return err
	})
	for range pools {
		h2.fails("start of what h1 has", <-refused, `owned by host "h1"`, "a container uses it there")
	}
	if cut := lab.SinceBoot() - since; cut < lease {
		t.Errorf("h1 was cut off for %v, which is less than a lease", cut)
	}
	h1.wantOwner("silent-h1", "h1", 1)
	for _, pool := range pools {
		if last, err := c.lastBeat(placeOf(pool, h1), h1); err != nil || last > since+time.Second {
			t.Errorf("%s wrote to %s %v after it was cut off (%v)", h1.Name(), pool, last-since, err)
		}
	}
	now := lab.SinceBoot()
	h1.must(h1.Heal(h1.ctx))
	h2.removeContainer("fenced-h1", "silent-h1")
	for _, pool := range append(pools, "shared") {
		p := placeOf(pool, h1)
		c.atOnce(func() error { return c.beatsOn(p, h1, now) })
		c.wantOneWriter(p.pool, p.name, "h1")
	}
	h1.wantReboots(0)
	if c.Storage().Fenced("h1") {
		t.Error("h1 was fenced")
	}

	// Once its client of the storage has ended, there is nothing to hope for.
	h1.must(h1.Storage.Kill())
	h1.removeContainer("silent-h1")
	c.atOnce(func() error { return h2.gets(c, placeOf("silent", h1), lab.SinceBoot(), 2*lease) })
	c.wantOneWriter("silent", "silent-h1", "h1", "h2")
	h1.must(h1.RemountStorage(h1.ctx))
}
