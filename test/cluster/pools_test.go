package cluster_test

import (
	"fmt"
	"strings"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// What storage that hosts share has to do for them, whatever it is. Volumes are
// in the default pool, but for those that are exclusive.

// What one host writes another reads, at once.
func testOneWritesOthersRead(c *cluster) {
	c.h(1).sh("datastore", "echo hello >/data/hello; echo old >/data/file")
	want(c.t, "what h2 reads", c.h(2).sh("datastore", "cat /data/hello"), "hello")
	if !c.h(2).listed("datastore") {
		c.t.Error("docker volume ls on h2 doesn't show the volume")
	}
	// Each sees what the other does while both have it.
	for _, h := range c.hosts {
		h.start("box", idle, "datastore:/data")
	}
	for i, h := range c.hosts {
		other, text := c.hosts[1-i], "from "+h.Name()
		h.docker("exec", "box", "sh", "-c", "echo "+text+" >/data/new && mv /data/new /data/file")
		other.eventually("what was replaced", func() error {
			got, err := other.Docker(other.ctx, "exec", "box", "cat", "/data/file")
			if err == nil && got != text {
				err = fmt.Errorf("it reads %q", got)
			}
			return err
		})
	}
}

// Containers on both hosts count in one file, one at a time: a directory that
// only one of them can make is their lock. What one has written and closed the
// other reads, at once.
func testWriteOnBoth(c *cluster) {
	const each = 25
	script := fmt.Sprintf(`cd /data
		touch ready.$(hostname)
		until [ -e ready.h1 ] && [ -e ready.h2 ]; do sleep 0.05; done
		for i in $(seq %d); do
			until mkdir lock 2>/dev/null; do sleep 0.02; done
			n=$(cat counter)
			echo $((n+1)) >counter
			echo $(hostname) >>log
			rmdir lock
			sleep 0.05 # the other's turn
		done`, each)
	c.h(1).sh("counted", "echo 0 >/data/counter")
	count := func(h *host) func() error {
		return func() error {
			_, err := h.Docker(h.ctx, "run", "--rm", "--hostname", h.Name(), "--network", "host", "-v", "counted:/data", lab.BusyBox, "sh", "-euc", script)
			return err
		}
	}
	c.atOnce(count(c.h(1)), count(c.h(2)))
	sum := fmt.Sprint(2 * each)
	for _, h := range c.hosts {
		h.eventually("the sum", func() error {
			if got := h.sh("counted", "cat /data/counter"); got != sum {
				return fmt.Errorf("it is %s, want %s", got, sum)
			}
			return nil
		})
	}
	log := strings.Fields(c.h(1).sh("counted", "cat /data/log"))
	turns := 1
	for i := range log[1:] {
		if log[i] != log[i+1] {
			turns++
		}
	}
	c.t.Logf("%d turns", turns)
	if len(log) != 2*each || turns < 3 {
		c.t.Errorf("they did not take turns: %v", log)
	}
}

// An exclusive volume goes from a host to another once its container has ended,
// and not before.
func (c *cluster) testHandOver(pool string) {
	h1, h2 := c.h(1), c.h(2)
	h1.createExclusive(pool, "mine", "mount_wait=1s")
	h1.start("owner", idle, "mine:/data")
	h1.docker("exec", "owner", "sh", "-c", "echo precious >/data/file; seq 100000 >/data/big")
	_, err := h2.trySh("mine", "true")
	h2.fails("mount of what h1 has", err, `owned by host "h1"`)
	h1.wantOwner("mine", "h1", 1)
	h1.removeContainer("owner")
	began := time.Now()
	want(c.t, "what h2 reads", h2.sh("mine", "cat /data/file; seq 100000 | cmp - /data/big && echo more >>/data/file"), "precious")
	c.t.Logf("handed over and read in %v", time.Since(began).Round(time.Millisecond))
	want(c.t, "what h1 reads", h1.sh("mine", "cat /data/file"), "precious\nmore")
}

// A host dies while it writes, another goes on, and the other way round. What the
// container had been told was on the storage is there.
func (c *cluster) testKilledHost(pool string) {
	p := place{pool, "killed"}
	from, to := c.h(1), c.h(2)
	from.createExclusive(p.pool, p.name)
	from.beat(p.name, p.name)
	var pauses []time.Duration
	for range 2 {
		c.atOnce(func() error { return c.beatsOn(p, from, lab.SinceBoot()+time.Second) })
		killed := lab.SinceBoot()
		from.must(from.Kill())
		to.takeOver(p.name, p.name, killed, 2*lease+machineTime)
		c.atOnce(func() error { return c.beatsOn(p, to, killed) })
		pause, _ := c.tookOver(p, from, to, killed)
		pauses = append(pauses, pause)
		c.atOnce(func() error { return from.back(c) })
		from.removeContainers()
		from, to = to, from
	}
	c.t.Logf("from kill to first write: %v", pauses)
	c.removeAll()
}
