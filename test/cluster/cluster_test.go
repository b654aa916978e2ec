// Package cluster_test drives several real Docker hosts that share volumes
// through a real Consul, and holds dvold to what docs/cluster.md promises.
//
// Tests that break nothing share a cluster. One that kills, cuts off or loses something
// has one for itself, which the next may have if all of it is well again. All end with
// the same check: once all containers and volumes are removed, nobody has or holds
// anything any more.
package cluster_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// dvold is the binary under test, as it is shipped: with the race detector it is
// for test/e2e, and for fleets in internal/volumes. beatCommand is what containers
// write with. Both are in the directory built.
var dvold, beatCommand, built string

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	if lab.Missing() != "" {
		return m.Run() // each test skips or fails
	}
	dir, err := os.MkdirTemp("", "cluster")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	built = dir
	if dvold, err = lab.BuildDvold(dir, false); err == nil {
		beatCommand, err = lab.BuildBeat(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := closeLent(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// lease is the lease_ttl of all hosts. Consul ends the session of a silent host
// after one to two of them.
const lease = 10 * time.Second

// cluster is a lab.Cluster whose failures end the test.
type cluster struct {
	*lab.Cluster
	t     *testing.T
	hosts []*host
}

// quorum is the Consul servers of a cluster that is to survive the end of one; the
// others have a single one, which is less for the machine to do.
const quorum = 3

// ownCluster starts a cluster of so many hosts and Consul servers for this test
// alone, which runs beside others.
func ownCluster(t *testing.T, hosts, servers int) *cluster {
	t.Helper()
	t.Parallel()
	return newCluster(t, hosts, servers, nil)
}

// newCluster starts a cluster, once prepare, if there is one, has seen it.
func newCluster(t *testing.T, hosts, servers int, prepare func(*lab.Cluster)) *cluster {
	t.Helper()
	began := time.Now()
	c := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: hosts, Servers: servers, Dvold: dvold})
	for _, h := range c.Hosts() {
		if err := h.Configure(configuration(h)); err != nil {
			t.Fatal(err)
		}
	}
	if prepare != nil {
		prepare(c)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d hosts started in %v", hosts, time.Since(began).Round(time.Millisecond))
	return in(t, c)
}

// configuration is that of a host: a pool that all share, one of its own, and
// on h1 another that the others don't have.
func configuration(h *lab.Host) string {
	c := fmt.Sprintf(`coordination: {type: consul, lease_ttl: %v}
default_pool: data
pools:
  data: {type: local, path: /shared/data, shared: true}
  own: {type: local, path: %s}
`, lease, h.Path("own"))
	if h.Name() == "h1" {
		c += "  extra: {type: local, path: /shared/extra, shared: true}\n"
	}
	return c
}

// in is a cluster for a test, which sweeps it when it ends.
func in(t *testing.T, c *lab.Cluster) *cluster {
	all := &cluster{Cluster: c, t: t}
	beats := "100ms"
	if c.Ceph() != nil {
		beats = "300ms" // each goes to three OSDs, which share the processors
	}
	for _, h := range c.Hosts() {
		all.hosts = append(all.hosts, &host{h, t, t.Context(), beats})
	}
	t.Cleanup(all.sweep)
	return all
}

// h is host hN, counted from 1.
func (c *cluster) h(n int) *host { return c.hosts[n-1] }

// sweep removes all containers and volumes, and reports what is left of them.
func (c *cluster) sweep() {
	c.t.Helper()
	byName := make(map[string]*host)
	for _, h := range c.hosts {
		h.wantNoRaces()
		if c.t.Failed() && !h.Up() {
			return // in the middle of something: there is enough to read
		}
		h = h.in(c.t, context.Background())
		byName[h.Name()] = h
		h.removeContainers()
		h.wantMounts(0)
	}
	for name, h := range byName {
		for _, v := range h.volumes() {
			if v.Home == "" || v.Home == name {
				h.eventually("removal of "+v.Name, func() error {
					_, err := h.Admin.Remove(h.ctx, v.Name)
					if err != nil && !hasWords(err, "no such volume") {
						return err
					}
					return nil
				})
			}
		}
	}
	for _, h := range byName {
		if left := h.volumes(); len(left) > 0 {
			c.t.Errorf("volumes are left over: %+v", left)
		}
		for _, other := range h.members() {
			if other.Holds != 0 {
				c.t.Errorf("%s sees that %s still holds %d volumes", h.Name(), other.Name, other.Holds)
			}
		}
		return
	}
}
