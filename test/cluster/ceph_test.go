package cluster_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// cephConfiguration has pools of images and of directories on Ceph, and one on a
// directory of the hosts.
const cephConfiguration = `coordination: {type: consul, lease_ttl: %v}
guard: {reboot_command: ` + lab.RebootCommand + `}
default_pool: files
pools:
  images: {type: rbd, pool: ` + lab.CephPool + `, size: 192M, fencer: ` + lab.CephFencer + `, %[2]s}
  files: {type: cephfs, filesystem: ` + lab.CephFileSystem + `, fencer: ` + lab.CephFencer + `, %[2]s}
  shared: {type: local, path: /shared/shared, shared: true}
`

// What the hosts wait for Ceph.
const (
	cephConnect = 5 * time.Second
	cephCall    = 10 * time.Second
)

// TestCeph has hosts share what is on Ceph, one at a time or at once, through times
// in which Consul or Ceph is away.
func TestCeph(t *testing.T) {
	t.Parallel()
	c := startCeph(t)
	for _, test := range []struct {
		name string
		run  func(*cluster)
	}{
		{"write here, read there", testOneWritesOthersRead},
		{"write on both", testWriteOnBoth},
		{"hand over an image", func(c *cluster) { c.testHandOver("images") }},
		{"hand over a directory", func(c *cluster) { c.testHandOver("files") }},
		{"migrate", func(c *cluster) { c.testMigrate("images", "files") }},
		{"lost record", func(c *cluster) { c.testLostRecord("images", "files") }},
		{"no Consul", testCephWithoutConsul},
		{"an OSD ends", testCephOSDEnds},
		{"all nodes silent", testCephSilent},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(in(t, c)) })
	}
}

// dvoldWithCeph is dvold as it is shipped where there are Ceph's libraries.
var dvoldWithCeph = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp(built, "ceph")
	if err != nil {
		return "", err
	}
	return lab.BuildDvoldWithCeph(dir)
})

// startCeph starts two hosts with such pools.
func startCeph(t *testing.T) *lab.Cluster {
	t.Helper()
	lab.Require(t)
	binary, err := dvoldWithCeph()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var monitors []string
	for _, a := range lab.CephAddresses() {
		monitors = append(monitors, a.String())
	}
	cluster := fmt.Sprintf("cluster: {monitors: [%s], user: %s, connect_timeout: %v, call_timeout: %v}",
		strings.Join(monitors, ", "), lab.CephUser, cephConnect, cephCall)
	text := fmt.Sprintf(cephConfiguration, lease, cluster)
	c := lab.ClusterForTest(t, lab.ClusterOptions{
		Hosts: 2, Servers: 1, Dvold: binary, Beat: beatCommand, Guard: true, Ceph: true,
		Configure: func(string) string { return text },
	})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("started in %v", time.Since(began).Round(time.Millisecond))
	return c
}

// cephBeats are the beats that have reached a volume, as the host that owns it reads
// them.
func (c *cluster) cephBeats(volume string) ([]lab.Beat, error) {
	up := func(h *host) bool { return h.Up() && !h.Frozen() }
	errs := []error{errors.New("no host is up")}
	for _, h := range c.hosts {
		if !up(h) {
			continue
		}
		d, err := h.Admin.Inspect(h.ctx, volume)
		if err == nil && d.Owner == nil {
			err = errors.New("it has no owner")
		}
		for _, owner := range c.hosts {
			if err == nil && owner.Name() == d.Owner.Host && up(owner) {
				text, err := owner.Exec(owner.ctx, "cat", filepath.Join(d.Mountpoint, "beats"))
				if err != nil {
					return nil, err
				}
				return lab.ParseBeats(text + "\n")
			}
		}
		errs = append(errs, fmt.Errorf("%s sees the owner %+v: %w", h.Name(), d.Owner, err))
	}
	return nil, errors.Join(errs...)
}

// A host is without Consul for longer than its lease, and its containers, for which
// others would have to fence it, do not notice (on_session_loss: keep). Then
// somebody does. DVOLD_TEST_CONSUL_AWAY, such as 2m, is for how long it is silent otherwise than for
// a lease.
func testCephWithoutConsul(c *cluster) {
	h1, h2 := c.h(1), c.h(2)
	away := lease
	if text, ok := os.LookupEnv("DVOLD_TEST_CONSUL_AWAY"); ok {
		var err error
		away, err = time.ParseDuration(text)
		c.must(err)
	}
	places := []place{{"images", "kept"}, {"files", "kept-files"}}
	for _, p := range places {
		h1.createExclusive(p.pool, p.name)
		h1.beat(p.name, p.name)
		want(c.t, "on_session_loss of "+p.name, h1.owner(p.name).OnSessionLoss, "keep")
	}
	for _, p := range places {
		c.must(c.beatsOn(p, h1, 0))
	}
	h1.must(h1.Cut(h1.ctx, lab.Consul))
	h2.wantLive("h1", false)
	time.Sleep(away) // in which it may notice
	h1.must(h1.Heal(h1.ctx))
	h1.must(h1.Rejoin(h1.ctx))
	c.wantUndisturbed(h1, 0, places...)
	for _, p := range places {
		want(c.t, "errors of "+p.name, h1.complaints(p.name), "")
	}

	since := lab.SinceBoot()
	h1.must(h1.Cut(h1.ctx, lab.Consul))
	var take []func() error
	for _, p := range places {
		take = append(take, func() error { return h2.gets(c, p, since, 2*lease+machineTime) })
	}
	c.atOnce(take...)
	c.must(h1.back(c))
	now := lab.SinceBoot()
	for _, p := range places {
		h1.stopped(p.name)
		c.must(c.beatsOn(p, h2, now))
		c.wantSynced(p, h1)
		c.t.Logf("%s: from last to first write: %v", p.name, c.wantOneWriter(p.pool, p.name, "h1", "h2"))
	}
	h1.wantReboots(0)
}

// wantSynced checks that the volume has all that a container of that name on a host was told has reached it.
func (c *cluster) wantSynced(p place, h *host) {
	c.t.Helper()
	out, err := h.Exec(h.ctx, "sh", "-c", "docker logs "+p.name+" 2>/dev/null")
	h.must(err)
	told, err := lab.ParseBeats(out + "\n")
	h.must(err)
	has, err := c.beatsOf(p.pool, p.name)
	h.must(err)
	if len(told) == 0 {
		c.t.Errorf("%s was told of no beat of %s", h.Name(), p.name)
	}
	for _, b := range told {
		if !slices.Contains(has, b) {
			c.t.Errorf("%s was told that %v of %s is on the storage, which is not", h.Name(), b, p.name)
		}
	}
}

// complaints are what a container has written to its standard error.
func (h *host) complaints(container string) string {
	h.t.Helper()
	out, err := h.Exec(h.ctx, "sh", "-c", "docker logs "+container+" 2>&1 >/dev/null")
	h.must(err)
	return out
}

// Containers write on while an OSD is away, and have all they wrote.
func testCephOSDEnds(c *cluster) {
	h, osd := c.h(1), c.Ceph().Node(3).OSD
	places := []place{{"images", "written"}, {"files", "written-files"}}
	for _, p := range places {
		h.createExclusive(p.pool, p.name)
		h.beat(p.name, p.name)
	}
	for _, p := range places {
		c.must(c.beatsOn(p, h, 0))
	}
	h.must(osd.Kill())
	ended := lab.SinceBoot()
	for _, p := range places {
		c.must(c.beatsOn(p, h, ended+time.Second))
		c.t.Logf("%s: without an OSD it writes on after %v", p.name, (lab.SinceBoot() - ended - time.Second).Round(time.Millisecond))
	}
	h.sh("made-meanwhile", "echo >/data/file")
	h.must(c.Ceph().Start(h.ctx, c.Ceph().Node(3)))
	now := lab.SinceBoot()
	for _, p := range places {
		c.must(c.beatsOn(p, h, now))
		c.wantOneStart(p)
		want(c.t, "errors of "+p.name, h.complaints(p.name), "")
	}
}

// All nodes fall silent, and answer again later.
func testCephSilent(c *cluster) {
	nodes := c.Ceph().Nodes()
	each := func(do func(*lab.CephNode) error) error {
		var errs []error
		for _, n := range nodes {
			errs = append(errs, do(n))
		}
		return errors.Join(errs...)
	}
	// A call waits for the cluster once or twice, beside what Docker waits for a volume's turn.
	o := outageOf{pools: map[string]string{"images": "exclusive", "files": "shared"}, bound: 60 * time.Second}
	c.testOutage(o,
		func() error { return each(func(n *lab.CephNode) error { return n.Freeze() }) },
		func() error {
			return errors.Join(each(func(n *lab.CephNode) error { return n.Thaw() }), c.StartCeph(c.t.Context()))
		})
}
