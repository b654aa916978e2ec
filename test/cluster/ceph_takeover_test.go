package cluster_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// TestCephTakeover has a host take exclusive volumes on Ceph over from one that is
// silent, whose clients the cluster refuses by then.
func TestCephTakeover(t *testing.T) {
	t.Parallel()
	c := startCeph(t)
	for _, test := range []struct {
		name string
		run  func(*cluster)
	}{
		{"frozen", testCephFrozenHost},
		{"image killed", func(c *cluster) { c.testKilledHost("images") }},
		{"directory killed", func(c *cluster) { c.testKilledHost("files") }},
		{"PostgreSQL", func(c *cluster) { testPostgres(c, "images") }},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(in(t, c)) })
	}
}

// Hazards 1 to 5: of a host that was frozen while it wrote not one write lands once
// another has written, when it goes on and after it was let in again. What was not
// taken from it is as ever, and so is all that the other has.
func testCephFrozenHost(c *cluster) {
	h1, h2 := c.h(1), c.h(2)
	image, compared, directory := place{"images", "frozen"}, place{"images", "compared"}, place{"files", "frozen-files"}
	taken := []place{image, compared, directory}
	left := []place{{"images", "left"}, {"files", "left-files"}}
	for _, p := range append(left, taken...) {
		h1.createExclusive(p.pool, p.name)
		h1.beat(p.name, p.name)
	}
	// Something that is not yet written, whenever the host freezes.
	h1.start("noise", "while dd if=/dev/urandom of=/data/noise bs=1M count=2 conv=notrunc; do sleep 0.5; done", compared.name+":/data")
	h1.start("sharer", idle, "spoken:/data")
	h1.docker("exec", "sharer", "sh", "-c", "echo said >/data/file")
	for _, p := range append(left, taken...) {
		c.must(c.beatsOn(p, h1, 0))
		want(c.t, "what a mount on h2 would do", would(h2, p.name), "wait for host")
	}

	since := lab.SinceBoot()
	h1.must(h1.Freeze())
	var take []func() error
	for _, p := range taken {
		take = append(take, func() error { return h2.gets(c, p, since, 2*lease+machineTime) })
	}
	c.atOnce(take...)
	fenced := c.fencedClients(h1)
	want(c.t, "clients of h1 that are fenced", len(fenced), len(taken))
	// Nobody has this one: whatever changes it, comes from h1.
	h2.removeContainer(compared.name)
	h2.wantMounts(2)
	before := c.imageSum(compared.name)

	thawed := lab.SinceBoot()
	h1.must(h1.Thaw())
	c.must(h1.back(c))
	for _, name := range []string{image.name, compared.name, directory.name, "noise"} {
		h1.stopped(name)
	}
	for _, p := range []place{image, directory} {
		c.must(c.beatsOn(p, h2, thawed+2*time.Second))
		h2.wantOwner(p.name, "h2", 2)
		c.t.Logf("%s: from last to first write: %v", p.name, c.wantOneWriter(p.pool, p.name, "h1", "h2"))
	}
	want(c.t, "sum of the image "+compared.name, c.imageSum(compared.name), before)
	c.wantUndisturbed(h1, thawed, left...)
	// Its shared client, which had files that h2 needed, was ended; it is replaced.
	h1.eventually("its shared volume", func() error {
		_, err := h1.Docker(h1.ctx, "exec", "sharer", "sh", "-c", "cat /data/file && echo again >/data/file")
		return err
	})
	if left := c.fencedClients(h1); len(left) > 0 {
		c.t.Errorf("%q are fenced, though h1 is clean", left)
	}
	h1.wantReboots(0)

	// What was taken it can have again.
	c.removeAll()
	for _, p := range taken {
		h1.beat(p.name, p.name)
	}
	for _, p := range taken {
		c.must(c.beatsOn(p, h1, thawed))
		c.wantOneWriter(p.pool, p.name, "h1", "h2", "h1")
	}
}

// fencedClients are the clients of a host that the cluster refuses for good: what an MDS
// has ended is refused for an hour.
func (c *cluster) fencedClients(h *host) (clients []string) {
	c.t.Helper()
	text, err := c.Ceph().Exec(c.t.Context(), "osd", "blocklist", "ls")
	c.must(err)
	for line := range strings.Lines(text) { // 10.99.0.11:0/2048971771 2031-11-28T03:27:38.123456+0000
		client, end, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(client, h.Address().String()+":") {
			continue
		}
		until, err := time.Parse("2006-01-02T15:04:05.999999-0700", end)
		c.must(err)
		if time.Until(until) > 24*time.Hour {
			clients = append(clients, client)
		}
	}
	return clients
}

// imageSum is one of all that is in a volume's image.
func (c *cluster) imageSum(volume string) string {
	c.t.Helper()
	out, err := c.Ceph().Node(1).Exec(c.t.Context(), "sh", "-c", fmt.Sprintf(`
		image=$(rbd ls %s | grep '^%s\.') && rbd export --no-progress "%[1]s/$image" - | sha256sum`, lab.CephPool, volume))
	c.must(err)
	return out
}
