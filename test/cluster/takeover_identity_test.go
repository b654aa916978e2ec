package cluster_test

import (
	"os"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

// A host may own on what it owned before only if it can tell that nothing is
// left of that: not if it lost its journal, nor if it is another machine under
// an old name.
func TestHazard10LostStateProvesNothing(t *testing.T) {
	c := takeoverCluster(t, 2)
	h1, h2 := c.h(1), c.h(2)
	p := place{"shared", "db"}
	h1.createExclusive(p.pool, p.name, "mount_wait=1s")
	h1.beat("writer", p.name)
	c.must(c.beatsOn(p, h1, 0))

	// The journal goes, as if somebody had emptied /run/dvol. The writer lives on.
	h1.must(h1.KillDvold())
	h1.must(os.Remove(h1.Path("run/dvol/mounts.db")))
	h1.must(h1.StartDvold(h1.ctx))
	c.must(c.beatsOn(p, h1, lab.SinceBoot()))
	h1.fails("start on a host that lost its journal", h1.tryBeat("again", p.name), "lost its own state", "reboot, or dvold volume release db --from h1")
	h1.removeContainer("again")
	h2.fails("start where it never was", h2.tryBeat("again", p.name), `owned by host "h1"`)
	h2.removeContainer("again")
	h2.wantOwner(p.name, "h1", 1)

	// A reboot proves it.
	h1.must(h1.Reboot(h1.ctx))
	h1.must(h1.StartAll(h1.ctx))
	h1.removeContainers()
	now := lab.SinceBoot()
	h1.beat("writer", p.name)
	c.must(c.beatsOn(p, h1, now))
	h2.wantOwner(p.name, "h1", 2)

	// A machine that was set up anew proves nothing for the one that had its name.
	h1.must(h1.Kill())
	h1.must(os.RemoveAll(h1.StateDir()))
	h2.wantLive("h1", false)
	h1.must(h1.Boot(h1.ctx))
	h1.must(h1.StartAll(h1.ctx))
	h1.removeContainers()
	for _, h := range c.hosts {
		h.fails("start on "+h.Name(), h.tryBeat("again", p.name), "another machine has its name", "dvold volume release db --from h1")
		h.removeContainer("again")
		h.wantOwner(p.name, "h1", 2)
	}
	h2.dvold("volume", "release", p.name, "--from", "h1")
	now = lab.SinceBoot()
	h2.beat("writer", p.name)
	c.must(c.beatsOn(p, h2, now))
	h2.wantOwner(p.name, "h2", 3)
	c.wantOneWriter(p.pool, p.name, "h1", "h2")
}
