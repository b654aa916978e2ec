package cluster_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// Two hosts stop altogether, as paused VMs do, guards included, are taken over
// from and go on. Of the one that was fenced not one write lands. The other had
// promised to cut itself off, which it could not: that is the limit that
// docs/takeover.md names. Its guard has to end what it writes at once, and to
// say so.
func TestHostIsFrozenAndThawed(t *testing.T) {
	c := takeoverCluster(t, 3)
	fenced, leased, taker := c.h(1), c.h(2), c.h(3)
	byLease := []place{placeOf("silent", leased), placeOf("shared", leased)}
	byFence := placeOf("fenced", fenced)
	c.atOnce(
		func() error { return fenced.writes(c, "fenced") },
		func() error { return leased.writes(c, "silent", "shared") })

	since := lab.SinceBoot()
	fenced.must(fenced.Freeze())
	leased.must(leased.Freeze())
	take := []func() error{func() error { return taker.gets(c, byFence, since, 2*lease+machineTime) }}
	for _, p := range byLease {
		take = append(take, func() error { return taker.gets(c, p, since, leaseTakeover+machineTime) })
	}
	c.atOnce(take...)

	thawed := lab.SinceBoot()
	leased.must(leased.Thaw())
	fenced.must(fenced.Thaw())
	// Its guard has cut it off, or, if it could not verify that within a second,
	// ended the machine.
	leased.eventually("the writers have ended", func() error {
		for _, p := range byLease {
			if running, err := leased.Docker(leased.ctx, "inspect", "-f", "{{.State.Running}}", p.name); leased.Up() && running != "false" {
				return fmt.Errorf("%s: %s (%v)", p.name, running, err)
			}
		}
		return nil
	})
	if !leased.Up() {
		t.Logf("h2 rebooted: %v after the thaw", leased.wantReboots(1)[0]-thawed)
	}
	for _, p := range byLease {
		c.detected(p, leased, taker, thawed)
	}
	fenced.wantReboots(0)

	now := lab.SinceBoot()
	c.atOnce(
		func() error { return fenced.back(c) },
		func() error { return leased.back(c) })
	for _, p := range append(byLease, byFence) {
		c.atOnce(func() error { return c.beatsOn(p, taker, now) })
		taker.wantOwner(p.name, taker.Name(), 2)
	}
	t.Logf("fenced: from last to first write: %v", c.wantOneWriter("fenced", byFence.name, fenced.Name(), taker.Name()))
	taker.removeContainers()
	c.atOnce(
		func() error { return fenced.again(c, "fenced") },
		func() error { return leased.again(c, "silent") })
}

// detected checks what is promised of a host that was taken over from by lease
// and wrote on, since it had been frozen: for how long it may, and that it tells.
func (c *cluster) detected(p place, h, taker *host, thawed time.Duration) {
	c.t.Helper()
	beats, _ := c.beatsOf(p.pool, p.name) // in disorder, if it has written on
	var first time.Duration
	landed := 0
	for _, b := range beats {
		switch {
		case b.Host == taker.Name() && first == 0:
			first = b.At
		case b.Host == h.Name() && first != 0:
			landed++
			if late := b.At - thawed; late > cutTime {
				c.t.Errorf("%s: %s wrote %v after it was thawed", p.name, h.Name(), late)
			}
		}
	}
	if first == 0 {
		c.t.Errorf("%s: %s has not written", p.name, taker.Name())
	}
	c.t.Logf("%s: %d writes of %s landed after the first of %s", p.name, landed, h.Name(), taker.Name())
	log, err := os.ReadFile(h.Path("guard.log"))
	if err != nil {
		c.t.Error(err)
	}
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "volume is cut off") && strings.Contains(line, p.name+".") {
			c.t.Logf("the guard says: %s", strings.TrimSpace(line))
			return
		}
	}
	c.t.Errorf("the guard of %s says nothing of %s", h.Name(), p.name)
}
