package cluster_test

import (
	"time"

	"github.com/dvol/dvold/test/lab"
)

// All servers end at once, and say so.
func testGlusterAllServersEnd(c *cluster) {
	c.testOutage(glusterOutage,
		func() error { return c.Gluster().Kill(c.Gluster().Nodes()...) },
		func() error { return c.StartGluster(c.t.Context()) })
}

// A host is cut off from all servers, in silence.
func testGlusterCutOff(c *cluster) {
	h := c.h(1)
	c.testOutage(glusterOutage,
		func() error { return h.Cut(h.ctx, lab.Storage) },
		func() error { return h.Heal(h.ctx) })
}

// Who asks just after the servers have answered waits for as long as the client,
// which notices silence after one to two times 5 s (lab.Gluster).
var glusterOutage = outageOf{pools: map[string]string{"gluster": "shared"}, bound: max(mountTimeout, 2*5*time.Second) + 5*time.Second}
