package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// databaseStack is a service that must run once, as a database does: it has an
// exclusive volume, and never runs twice on one node.
const databaseStack = `
version: "3.8"
services:
  db:
    image: lab/busybox
    hostname: "{{.Node.Hostname}}"
    command: beat /data/beats 100ms
    networks: [host]
    volumes: ["db:/data"]
    stop_grace_period: 1s
    deploy:
      placement: {max_replicas_per_node: 1, constraints: ["node.role == worker"]}
      restart_policy: {delay: 1s}
networks:
  host: {external: true, name: host}
volumes:
  db: {driver: dvol, name: db, driver_opts: {pool: fenced, access: exclusive, mount_wait: 5s}}
`

// Swarm moves a database: its node is drained, it is updated in either order, its
// node dies. Only one host ever writes, and docs/swarm.md says what is seen here.
func TestSwarmMovesDatabase(t *testing.T) {
	c := ownTakeoverCluster(t, 3, 1, nil) // of an engine that had volumes of dvol before, Swarm knows that it has dvol
	manager, h2, h3 := c.startSwarm(), c.h(2), c.h(3)
	db := place{"fenced", "db"}

	manager.docker("node", "update", "--availability", "drain", "h3")
	manager.deploy("db.yaml", databaseStack)
	h2.getsTask(c, db, 0)

	// An engine that was started anew and has not used dvol yet gets no task that
	// names it, until somebody lists volumes there, as dvold-announce.service does.
	h3.must(h3.StopDocker())
	h3.must(h3.StartDocker(h3.ctx))
	manager.docker("node", "update", "--availability", "active", "h3")
	since := lab.SinceBoot()
	manager.docker("node", "update", "--availability", "drain", "h2")
	manager.wantTask("missing plugin on 1 node")
	h3.docker("volume", "ls", "--quiet")
	h3.getsTask(c, db, since)
	manager.wantOwner("db", "h3", 2)
	manager.docker("node", "update", "--availability", "active", "h2")

	// The old task is stopped before the new one is started, wherever that is.
	since = lab.SinceBoot()
	manager.docker("service", "update", "--detach", "--force", "--update-order", "stop-first", "s_db")
	manager.wantUpdate("completed")
	owner, other := h3, h2
	chosen := func() { // where Swarm has put the task
		if manager.owner("db").Host != owner.Name() {
			owner, other = other, owner
		}
		owner.getsTask(c, db, since)
	}
	chosen()
	manager.wantOwner("db", owner.Name(), 3)

	// The new one is started elsewhere while the old one runs: it can't be, and
	// nothing happens to the old one.
	since = lab.SinceBoot()
	manager.docker("service", "update", "--detach", "--force", "--update-order", "start-first", "s_db")
	manager.wantUpdate("paused")
	manager.wantTask(fmt.Sprintf("owned by host %q", owner.Name()))
	t.Log(manager.tasks())
	c.must(c.beatsOn(db, owner, lab.SinceBoot()))
	manager.wantOwner("db", owner.Name(), 3)
	manager.docker("service", "update", "--detach", "--force", "--update-order", "stop-first", "s_db")
	manager.wantUpdate("completed")
	chosen()

	// Its node dies.
	killed := lab.SinceBoot()
	owner.must(owner.Kill())
	other.getsTask(c, db, killed)
	t.Log(manager.docker("node", "ls"))
	beats, err := c.beatsOf(db.pool, db.name)
	if err != nil && strings.Contains(err.Error(), "torn") {
		t.Error(err)
	}
	c.must(countOn(beats))
	var writers []string
	var first time.Duration
	for _, b := range beats {
		if len(writers) == 0 || writers[len(writers)-1] != b.Host {
			writers, first = append(writers, b.Host), b.At
		}
	}
	epoch := manager.owner("db").Epoch
	t.Logf("%v wrote, in %d epochs; from kill to first write: %v", writers, epoch, first-killed)
	if uint64(len(writers)) > epoch {
		t.Errorf("the writer changed more often than the owner: two hosts wrote at once")
	}

	c.must(owner.back(c))
	other.getsTask(c, db, lab.SinceBoot())
	manager.wantOwner("db", other.Name(), epoch)
	manager.docker("stack", "rm", "s")
	c.endSwarm()
}

// countOn returns an error unless each beat counts on from one before it of its host, where several may write at once:
// of an update that follows on one that has failed, Swarm starts the new task on the node of the old one, now and then,
// while that one is stopping.
func countOn(beats []lab.Beat) error {
	last := make(map[string][]int) // of each process on a host
	for i, b := range beats {
		all := last[b.Host]
		at := slices.Index(all, b.Seq-1)
		switch {
		case b.Seq == 1:
			last[b.Host] = append(all, 1)
		case at >= 0:
			all[at] = b.Seq
		case !slices.Contains(all, b.Seq):
			return fmt.Errorf("beat %d: %s wrote %d, after %v", i+1, b.Host, b.Seq, all)
		}
	}
	return nil
}

// getsTask waits until a task on this host has written to a volume after a moment,
// which may take as long as Swarm and a takeover together.
func (h *host) getsTask(c *cluster, p place, after time.Duration) {
	h.t.Helper()
	h.eventually(h.Name()+" writes to "+p.name, func() error {
		last, err := c.lastBeat(p, h)
		if last > after {
			return nil
		}
		return fmt.Errorf("last at %v, not after %v (%w)", last, after, err)
	})
}

// tasks are those of the service, the newest first.
func (h *host) tasks() string {
	h.t.Helper()
	return h.docker("service", "ps", "--no-trunc", "--format", "{{.Node}} {{.CurrentState}} {{.Error}}", "s_db")
}

// wantTask waits until a task of the service has an error with those words.
func (h *host) wantTask(words string) {
	h.t.Helper()
	h.eventually("a task with "+words, func() error {
		out := h.tasks()
		if !strings.Contains(out, words) {
			return fmt.Errorf("tasks: %s", out)
		}
		return nil
	})
}

// wantUpdate waits until the update of the service is in a state.
func (h *host) wantUpdate(state string) {
	h.t.Helper()
	h.eventually("update "+state, func() error {
		out := h.docker("service", "inspect", "--format", "{{with .UpdateStatus}}{{.State}}: {{.Message}}{{end}}", "s_db")
		if !strings.HasPrefix(out, state) {
			return fmt.Errorf("it is %s; %s", out, h.tasks())
		}
		return nil
	})
}
