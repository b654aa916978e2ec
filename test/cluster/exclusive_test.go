package cluster_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/volumes"
	"github.com/dvol/dvold/test/lab"
)

// Pools of a cluster for takeovers. fenced and silent lie on the storage that
// the hosts can be cut off from; shared is a directory that nothing cuts off.
const takeoverConfiguration = `coordination: {type: consul, lease_ttl: %v}
guard: {cut_time: %v, reboot_command: ` + lab.RebootCommand + `}
default_pool: fenced
pools:
  fenced:
    {type: local, path: /dfs/fenced, shared: true, exclusive: {fence_command: [` + lab.FenceCommand + `], fence_covers: pool}}
  silent:
    {type: local, path: /dfs/silent, shared: true, exclusive: {takeover: auto, accept_lease: true}}
  shared:
    {type: local, path: /shared/shared, shared: true, exclusive: {takeover: auto, accept_lease: true}}
  manual:
    {type: local, path: /shared/manual, shared: true}
`

// cutTime is guard.cut_time of all hosts.
const cutTime = 5 * time.Second

// takeoverCluster is a cluster of so many hosts, each with a guard, on storage that
// hosts can be cut off from and fenced from. While it lasts it is this test's alone,
// which runs beside others; another may have had it before.
func takeoverCluster(t *testing.T, hosts int) *cluster {
	t.Helper()
	t.Parallel()
	c := borrow(t)
	all := in(t, c)
	all.hosts = all.hosts[:hosts]
	return all
}

// ownTakeoverCluster starts one for this test alone, with so many Consul servers and with
// configurations of hosts that configure, if it is not nil, has changed.
func ownTakeoverCluster(t *testing.T, hosts, servers int, configure func(host, configuration string) string) *cluster {
	t.Helper()
	t.Parallel()
	o := takeoverOptions(hosts, servers)
	if configure != nil {
		usual := o.Configure
		o.Configure = func(host string) string { return configure(host, usual(host)) }
	}
	began := time.Now()
	c := lab.ClusterForTest(t, o)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d hosts started in %v", hosts, time.Since(began).Round(time.Millisecond))
	return in(t, c)
}

func takeoverOptions(hosts, servers int) lab.ClusterOptions {
	return lab.ClusterOptions{
		Hosts: hosts, Servers: servers, Dvold: dvold, Beat: beatCommand, Guard: true, Storage: true,
		Configure: func(string) string { return fmt.Sprintf(takeoverConfiguration, lease, cutTime) },
	}
}

// createExclusive makes an exclusive volume in a pool.
func (h *host) createExclusive(pool, name string, options ...string) {
	h.t.Helper()
	h.create(name, append([]string{"pool=" + pool, "access=exclusive"}, options...)...)
}

// beat starts a container that writes beats to a volume, each one durable before
// the next.
func (h *host) beat(name, volume string) {
	h.t.Helper()
	h.must(h.tryBeat(name, volume))
}

func (h *host) tryBeat(name, volume string) error {
	return h.Run(h.ctx, h.writer(name, volume))
}

// writer is a container that writes beats to a volume.
func (h *host) writer(name, volume string) lab.Container {
	return lab.Container{Name: name, Hostname: h.Name(), Binds: []string{volume + ":/data"}, Driver: "dvol",
		Command: []string{"beat", "/data/beats", h.beats}}
}

// owner is what the host knows of who owns a volume.
func (h *host) owner(volume string) volumes.Owner {
	h.t.Helper()
	o, err := h.tryOwner(volume)
	h.must(err)
	return o
}

func (h *host) tryOwner(volume string) (volumes.Owner, error) {
	d, err := h.Admin.Inspect(h.ctx, volume)
	if err != nil {
		return volumes.Owner{}, err
	}
	if d.Owner == nil {
		return volumes.Owner{}, fmt.Errorf("%s has no owner: %+v", volume, d)
	}
	return *d.Owner, nil
}

// wantOwner checks who owns a volume.
func (h *host) wantOwner(volume, owner string, epoch uint64) {
	h.t.Helper()
	if o := h.owner(volume); o.Host != owner || o.Epoch != epoch {
		h.t.Errorf("%s: %s is owned by %q, epoch %d (%s); want %q, %d", h.Name(), volume, o.Host, o.Epoch, o.State, owner, epoch)
	}
}

// beatsOf are the beats that have reached a volume, wherever it lies.
func (c *cluster) beatsOf(pool, volume string) ([]lab.Beat, error) {
	if c.Gluster() != nil && (pool == "gluster" || pool == "leased") {
		return c.glusterBeats(c.Gluster().Node(1), volume)
	}
	if c.Ceph() != nil && pool != "shared" {
		return c.cephBeats(volume)
	}
	var files []string
	dirs := []string{c.Path(filepath.Join("shared", pool))}
	if c.Storage() != nil {
		dirs = append(dirs, c.Storage().Data(pool))
	}
	for _, dir := range dirs {
		found, err := filepath.Glob(filepath.Join(dir, "volumes", volume+".*", "beats"))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	if len(files) != 1 {
		return nil, fmt.Errorf("files of %s in pool %s: %v, want one", volume, pool, files)
	}
	return lab.Beats(files[0])
}

// wantOneWriter checks that beats of hosts never mix: once a later host has
// written, none of an earlier one lands, and no beat is lost or torn. It returns
// the pause between the last beat of the first host and the first of the last.
func (c *cluster) wantOneWriter(pool, volume string, order ...string) time.Duration {
	c.t.Helper()
	beats, err := c.beatsOf(pool, volume)
	if err != nil {
		c.t.Errorf("beats: %v", err)
	}
	pause, err := oneWriter(beats, order)
	if err != nil {
		c.t.Error(err)
	}
	return pause
}

// oneWriter returns an error unless the beats are of hosts in that order.
func oneWriter(beats []lab.Beat, order []string) (pause time.Duration, err error) {
	at := 0
	counts := make([]int, len(order))
	var last, first time.Duration
	for i, b := range beats {
		for at < len(order) && b.Host != order[at] {
			at++
		}
		if at == len(order) {
			return 0, fmt.Errorf("beat %d is of %s, after one of %s: two hosts wrote at once", i+1, b.Host, order[len(order)-1])
		}
		counts[at]++
		switch {
		case at == 0:
			last = b.At
		case at == len(order)-1 && first == 0:
			first = b.At
		}
	}
	for i, n := range counts {
		if n == 0 {
			return 0, fmt.Errorf("%s has not written: %d beats", order[i], len(beats))
		}
	}
	return first - last, nil
}

// eventuallyBeats waits until a host has written to a volume.
func (c *cluster) eventuallyBeats(pool, volume, host string) {
	c.t.Helper()
	c.h(1).eventually(host+" writes to "+volume, func() error {
		beats, err := c.beatsOf(pool, volume)
		for _, b := range beats {
			if b.Host == host {
				return nil
			}
		}
		return fmt.Errorf("%d beats, none of it (%v)", len(beats), err)
	})
}

// takeOver has a host start a container with a volume that another has, again
// and again until it gets it, and returns how long after from that was.
func (h *host) takeOver(name, volume string, from time.Duration, limit time.Duration) time.Duration {
	h.t.Helper()
	took, err := h.tryTakeOver(name, volume, from, limit)
	h.must(err)
	return took
}

func (h *host) tryTakeOver(name, volume string, from, limit time.Duration) (time.Duration, error) {
	for {
		err := h.tryBeat(name, volume)
		took := lab.SinceBoot() - from
		if err == nil {
			return took, nil
		}
		if took > limit {
			return took, fmt.Errorf("%s did not get %s within %v: %w", h.Name(), volume, limit, err)
		}
		h.t.Logf("%s did not get %s yet: %v", h.Name(), volume, err)
		h.removeContainer(name)
	}
}

// stopped waits until a container has ended.
func (h *host) stopped(name string) {
	h.t.Helper()
	h.eventually(name+" has ended", func() error {
		is, err := h.Container(h.ctx, name)
		if err == nil && is.State.Running {
			err = errors.New("it runs")
		}
		return err
	})
}

func TestExclusiveVolumeIsHandedOver(t *testing.T) {
	c := takeoverCluster(t, 2)
	h1, h2 := c.h(1), c.h(2)
	h1.createExclusive("fenced", "db", "mount_wait=20s")
	h1.beat("writer", "db")
	h1.wantOwner("db", "h1", 1)

	// Refused after mount_wait, with the owner's name.
	h1.createExclusive("fenced", "busy", "mount_wait=1s")
	h1.beat("busy", "busy")
	h2.fails("start of what h1 has", h2.tryBeat("busy", "busy"), `owned by host "h1"`, "since", "a container uses it there")
	h2.removeContainer("busy")

	// Waits, and gets it.
	got := make(chan error, 1)
	go func() { got <- h2.tryBeat("writer", "db") }()
	h1.eventually("h2 waits", func() error {
		_, err := h2.tryOwner("db")
		return err
	})
	time.Sleep(time.Second) // it is to wait for a while
	stop := lab.SinceBoot()
	h1.removeContainer("writer")
	h2.must(<-got)
	c.eventuallyBeats("fenced", "db", "h2")
	t.Logf("from docker rm on h1 to a running container on h2: %v", lab.SinceBoot()-stop)
	h2.removeContainer("writer")
	t.Logf("from last to first write: %v", c.wantOneWriter("fenced", "db", "h1", "h2"))
	if c.Storage().Fenced("h1") {
		t.Error("h1 was fenced")
	}
}

func TestKilledHostIsReplaced(t *testing.T) {
	c := takeoverCluster(t, 2)
	h1, h2 := c.h(1), c.h(2)
	for _, pool := range []string{"fenced", "shared"} {
		h1.createExclusive(pool, pool+"-db")
		h1.beat(pool, pool+"-db")
		c.eventuallyBeats(pool, pool+"-db", "h1")
	}
	killed := lab.SinceBoot()
	h1.must(h1.Kill())
	took := h2.takeOver("fenced", "fenced-db", killed, 2*lease+machineTime)
	c.eventuallyBeats("fenced", "fenced-db", "h2")
	t.Logf("with a fence: from kill to a running container: %v", took)
	took = h2.takeOver("shared", "shared-db", killed, leaseTakeover+machineTime)
	c.eventuallyBeats("shared", "shared-db", "h2")
	t.Logf("by lease: from kill to a running container: %v", took)
	h2.removeContainer("fenced", "shared")
	for _, pool := range []string{"fenced", "shared"} {
		t.Logf("%s: from last to first write: %v", pool, c.wantOneWriter(pool, pool+"-db", "h1", "h2"))
	}
	if !c.Storage().Fenced("h1") {
		t.Error("h1 is not fenced")
	}
	// Back, it is clean, and can do all it could before.
	h1.must(h1.Boot(h1.ctx))
	h1.must(h1.StartAll(h1.ctx))
	h1.eventually("h1 is not fenced any more", func() error {
		if c.Storage().Fenced("h1") {
			return fmt.Errorf("it is")
		}
		return nil
	})
	h1.must(h1.RemountStorage(h1.ctx))
	h1.removeContainer("fenced", "shared")
	h1.beat("fenced", "fenced-db")
	h1.wantOwner("fenced-db", "h1", 3)
}
