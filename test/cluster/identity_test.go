package cluster_test

import (
	"os"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

// Machines that were copied have one machine ID; dvold has IDs of its own. A
// host that lost its state is a new machine with an old name: it has to wait
// until the old one is given up for dead.
func TestHostLosesItsState(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, 1, func(c *lab.Cluster) {
		for _, h := range c.Hosts() {
			if err := os.WriteFile(h.Path("etc/machine-id"), []byte("0123456789abcdef0123456789abcdef\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	})
	h1, h2 := c.h(1), c.h(2)
	for _, h := range c.hosts {
		id, err := h.Exec(h.ctx, "cat", "/etc/machine-id")
		h.must(err)
		want(t, "machine ID", id, "0123456789abcdef0123456789abcdef")
		h1.wantLive(h.Name(), true)
	}
	h1.start("box", beat, "used:/data")
	h1.sh("kept", "echo 1 >/data/file")
	before := h2.sees("h1")
	h1.must(h1.KillDvold())
	h1.must(os.RemoveAll(h1.StateDir()))
	err := h1.StartDvold(h1.ctx)
	h1.fails("start without its state", err, "another machine of that name", "is live")
	h2.wantLive("h1", false)
	h1.must(h1.StartDvold(h1.ctx))
	h2.wantLive("h1", true)
	if now := h2.sees("h1"); now.Incarnation <= before.Incarnation {
		t.Errorf("h1 = %+v, was %+v", now, before)
	}
	h2.wantHolders("used", "h1")
	h2.dockerFails([]string{`"h1"`, "stop its containers there"}, "volume", "rm", "used")
	h1.wantMounts(1)
	want(t, "content", h1.sh("kept", "cat /data/file"), "1")
	c.wantNoGap("used")
	h1.removeContainers()
	h2.wantHolders("used")
}
