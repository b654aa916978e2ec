package cluster_test

import (
	"net/http"
	"path"

	"github.com/dvol/dvold/internal/volumes"
)

// testLostRecord brings volumes back whose records are lost: the pools know of them, too.
func (c *cluster) testLostRecord(pools ...string) {
	h1, h2, consul := c.h(1), c.h(2), c.Servers()[0]
	for _, pool := range pools {
		name := "lost-" + pool
		h1.create(name, "pool="+pool, "access=exclusive", "mode=0750")
		h1.sh(name, "echo precious >/data/file")
		before := h1.inspect(name)
		keys, err := consul.RecordKeys(h1.ctx, "volumes/")
		h1.must(err)
		for _, key := range keys {
			if path.Base(key) == name {
				c.consul(consul, http.MethodDelete, "kv/"+key, nil)
			}
		}
		h2.dvoldFails([]string{name}, "volume", "inspect", name)
		h2.dvold("pool", "scan", "--import", pool)
		if after := h2.inspect(name); after.ID != before.ID || after.Access != volumes.AccessExclusive || after.Size != before.Size {
			c.t.Errorf("it was %+v, and is %+v", before, after)
		}
		want(c.t, "content", h2.sh(name, "cat /data/file && echo more >>/data/file"), "precious")
		want(c.t, "content", h1.sh(name, "tail -n 1 /data/file"), "more")
		h2.docker("volume", "rm", name)
	}
}
