package cluster_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// TestGlusterTakeover has a host take exclusive volumes on GlusterFS over from one
// that is silent, which the servers reject by then.
func TestGlusterTakeover(t *testing.T) {
	t.Parallel()
	c := startGluster(t)
	for _, test := range []struct {
		name string
		run  func(*cluster)
	}{
		{"frozen", testGlusterFrozenHost},
		{"killed", func(c *cluster) { c.testKilledHost("gluster") }},
		{"killed with a server", testGlusterKilledWithServer},
		{"cut off from all", testGlusterCutOffFromAll},
		{"PostgreSQL", func(c *cluster) { testPostgres(c, "gluster") }},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(in(t, c)) })
	}
}

// Hazards 2 to 5: of a host that was frozen while it wrote not one write lands
// once another has written, when it goes on and after it was let in again; its
// shared volumes come back then.
func testGlusterFrozenHost(c *cluster) {
	h1, h2 := c.h(1), c.h(2)
	p := place{"gluster", "frozen"}
	h1.createExclusive(p.pool, p.name)
	h1.beat("writer", p.name)
	other := place{"gluster", "manual"}
	h1.createExclusive(other.pool, other.name, "takeover=manual")
	h1.beat("other", other.name)
	h1.start("sharer", idle, "spoken:/data")
	h1.docker("exec", "sharer", "sh", "-c", "echo said >/data/file")
	c.atOnce(func() error { return c.beatsOn(p, h1, 0) }, func() error { return c.beatsOn(other, h1, 0) })
	want(c.t, "what a mount on h2 would do", would(h2, p.name), "wait for host")

	since := lab.SinceBoot()
	h1.must(h1.Freeze())
	took := h2.takeOver("writer", p.name, since, 2*lease+machineTime)
	c.t.Logf("taken over %v after the freeze", took.Round(time.Millisecond))
	c.atOnce(func() error { return c.beatsOn(p, h2, since) })
	if got := c.rejected(); !strings.Contains(got, h1.Address().String()) {
		c.t.Errorf("rejected are %q, without %s", got, h1.Address())
	}
	// The fence covers the other, too, and is no leave to take it.
	h2.wantLive("h1", false)
	want(c.t, "what a mount of the other would do", would(h2, other.name), "fail: owned by")
	if err := h2.tryBeat("refused", other.name); err == nil || !strings.Contains(err.Error(), "its takeover is manual") {
		c.t.Errorf("the other was taken: %v", err)
	}
	released := lab.SinceBoot()
	h2.dvold("volume", "release", other.name, "--from", "h1")
	h2.beat("other", other.name)
	c.atOnce(func() error { return c.beatsOn(other, h2, released) })
	thawed := lab.SinceBoot()
	h1.must(h1.Thaw())
	c.atOnce(func() error { return h1.back(c) })
	h1.stopped("writer")
	h1.stopped("other")
	c.atOnce(func() error { return c.beatsOn(p, h2, thawed+2*time.Second) })
	c.wantOneWriter(other.pool, other.name, "h1", "h2")
	for _, n := range c.Gluster().Nodes() {
		beats, err := c.glusterBeats(n, p.name)
		if err != nil {
			c.t.Error(err)
		}
		if pause, err := oneWriter(beats, []string{"h1", "h2"}); err != nil {
			c.t.Errorf("%s: %v", n.Name(), err)
		} else {
			c.t.Logf("%s: %v from the last write of h1 to the first of h2", n.Name(), pause)
		}
	}
	h2.wantOwner(p.name, "h2", 2)
	if got := c.rejected(); got != "" {
		c.t.Errorf("rejected are %q, though h1 is clean", got)
	}
	h1.eventually("its shared volume", func() error {
		_, err := h1.Docker(h1.ctx, "exec", "sharer", "sh", "-c", "cat /data/file && echo again >/data/file")
		return err
	})
	h1.wantReboots(0)
	c.removeAll()
	now := lab.SinceBoot()
	h1.beat("writer", p.name)
	c.atOnce(func() error { return c.beatsOn(p, h1, now) })
	c.removeAll()
}

// A host and a server die at once: two bricks of three can be asked, and one alone
// would not do for a write.
func testGlusterKilledWithServer(c *cluster) {
	h1, h2, g3 := c.h(1), c.h(2), c.Gluster().Node(3)
	p := place{"gluster", "both"}
	h1.createExclusive(p.pool, p.name)
	h1.beat("writer", p.name)
	c.atOnce(func() error { return c.beatsOn(p, h1, 0) })
	killed := lab.SinceBoot()
	h1.must(errors.Join(h1.Kill(), c.Gluster().Kill(g3)))
	took := h2.takeOver("writer", p.name, killed, 2*lease+machineTime)
	c.atOnce(func() error { return c.beatsOn(p, h2, killed) })
	c.t.Logf("taken over %v after both were killed", took.Round(time.Millisecond))
	h1.must(c.Gluster().Start(h1.ctx, g3))
	c.atOnce(func() error { return h1.back(c) })
	c.removeAll()
	c.wantHealed()
	c.t.Logf("from last to first write: %v", c.wantOneWriter(p.pool, p.name, "h1", "h2"))
	// All bricks have let h1 in again, also the one that was started meanwhile.
	now := lab.SinceBoot()
	h1.beat("writer", p.name)
	c.atOnce(func() error { return c.beatsOn(p, h1, now) })
	c.removeAll()
}

// Hazard 2, on Gluster, and where nobody can fence: a host that is cut off from
// the cluster and the storage ends its client, and what that still had to send does
// not arrive when the network is back.
func testGlusterCutOffFromAll(c *cluster) {
	h1, h2 := c.h(1), c.h(2)
	p := place{"leased", "alone"}
	h1.createExclusive(p.pool, p.name)
	h1.beat("writer", p.name)
	c.atOnce(func() error { return c.beatsOn(p, h1, 0) })
	since := lab.SinceBoot()
	h1.must(h1.Cut(h1.ctx, lab.All))
	c.atOnce(func() error { return h2.gets(c, p, since, leaseTakeover+machineTime) })
	h1.stopped("writer")
	log, err := os.ReadFile(h1.Path("guard.log"))
	h1.must(err)
	blocked := ""
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, "network to the storage was blocked") && strings.Contains(line, p.name+".") {
			blocked = line
		}
	}
	for _, a := range lab.GlusterAddresses() {
		if !strings.Contains(blocked, a.String()) {
			c.t.Errorf("the guard has not blocked %s, but said: %s", a, blocked)
		}
	}
	healed := lab.SinceBoot()
	c.atOnce(func() error { return h1.back(c) })
	c.atOnce(func() error { return c.beatsOn(p, h2, healed+2*time.Second) })
	c.wantWriterStopped(p, h1, since)
	for _, n := range c.Gluster().Nodes() {
		beats, err := c.glusterBeats(n, p.name)
		if err == nil {
			_, err = oneWriter(beats, []string{"h1", "h2"})
		}
		if err != nil {
			c.t.Errorf("%s: %v", n.Name(), err)
		}
	}
	h1.wantReboots(0)
	c.removeAll()
}

// rejected are the addresses that the Gluster volume rejects, but for the one that is
// nobody's.
func (c *cluster) rejected() string {
	c.t.Helper()
	text, err := c.Gluster().Exec(c.t.Context(), "volume", "info", lab.GlusterVolume)
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if list, ok := strings.CutPrefix(line, "auth.reject: "); ok {
			return strings.TrimPrefix(strings.TrimSpace(list), "0.0.0.0")
		}
	}
	return ""
}

// removeAll removes the containers of all hosts.
func (c *cluster) removeAll() {
	for _, h := range c.hosts {
		h.removeContainers()
	}
}

// would is the beginning of what a mount would do, as a host says.
func would(h *host, volume string) string {
	h.t.Helper()
	return strings.Join(strings.Fields(h.owner(volume).Would)[:3], " ")
}
