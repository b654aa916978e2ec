package cluster_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestTogether has the tests that break nothing, one after the other in one
// cluster.
func TestTogether(t *testing.T) {
	c := newCluster(t, 3, quorum, nil)
	for _, test := range []struct {
		name string
		run  func(*cluster)
	}{
		{"write here, read there", testWriteHereReadThere},
		{"create at once", testCreateAtOnce},
		{"create at once, in disagreement", testCreateInDisagreement},
		{"remove while others mount", testRemoveWhileOthersMount},
		{"remove what others know", testRemoveWhatOthersKnow},
		{"remove what others hold", testRemoveWhatOthersHold},
		{"undelete elsewhere", testUndeleteElsewhere},
		{"own pool", testOwnPool},
		{"missing pool", testMissingPool},
		{"read only", testReadOnly},
		{"drain", testDrain},
		{"operator's view", testOperatorsView},
		{"restart dvold", testRestartDvold},
		{"two of one name", testTwoOfOneName},
		{"swarm", testSwarm},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(in(t, c.Cluster)) })
	}
}

func testWriteHereReadThere(c *cluster) {
	c.h(1).sh("site", "echo hello >/data/file")
	for _, h := range c.hosts {
		want(c.t, "what "+h.Name()+" reads", h.sh("site", "cat /data/file"), "hello")
	}
	c.h(2).start("writer", beat, "site:/data")
	c.h(3).sh("site", "until grep -q . /data/beats; do sleep 0.05; done")
	if !c.h(3).listed("site") {
		c.t.Error("docker volume ls on h3 doesn't show the volume")
	}
	for i := range 10 { // at once means each time
		name := fmt.Sprint("instant", i)
		c.h(1).create(name)
		for _, h := range c.hosts {
			if _, err := h.plugin("Get", request{Name: name}); err != nil {
				c.t.Errorf("Get of %s on %s: %v", name, h.Name(), err)
			}
		}
	}
}

// each calls do for all hosts at once.
func (c *cluster) each(do func(int, *host)) {
	var all sync.WaitGroup
	for i, h := range c.hosts {
		all.Go(func() { do(i, h) })
	}
	all.Wait()
}

func testCreateAtOnce(c *cluster) {
	for i := range 10 {
		name := fmt.Sprint("same", i)
		c.each(func(_ int, h *host) {
			if _, err := h.Docker(h.ctx, "volume", "create", "-d", "dvol", name); err != nil {
				c.t.Error(err)
			}
		})
		ids := make(map[string]bool)
		for _, h := range c.hosts {
			ids[h.inspect(name).ID] = true
		}
		if len(ids) != 1 {
			c.t.Errorf("%s has the IDs %v, want one", name, ids)
		}
	}
	if dirs, err := filepath.Glob(c.Path("shared/data/volumes/same*")); err != nil || len(dirs) != 10 {
		c.t.Errorf("directories = %v (%v), want one for each volume", dirs, err)
	}
}

func testCreateInDisagreement(c *cluster) {
	modes := []string{"0700", "0750", "0755"}
	for i := range 10 {
		name := fmt.Sprint("dispute", i)
		errs := make([]error, len(modes))
		c.each(func(i int, h *host) {
			_, errs[i] = h.plugin("Create", request{Name: name, Opts: map[string]string{"mode": modes[i]}})
		})
		winner := c.h(1).docker("volume", "inspect", name, "--format", "{{.Status.options.mode}}")
		for i, err := range errs {
			if modes[i] == winner {
				c.h(i + 1).must(err)
				continue
			}
			c.h(i+1).fails("create of "+name, err, "exists with other options", "mode="+winner, modes[i])
		}
	}
}

// A removal and a mount never both succeed.
func testRemoveWhileOthersMount(c *cluster) {
	const rounds = 20
	removed := 0
	id := strings.Repeat("ab", 32)
	for i := range rounds {
		name := fmt.Sprint("race", i)
		c.h(1).create(name)
		var errs [3]error
		c.each(func(i int, h *host) {
			if i == 0 {
				_, errs[i] = h.plugin("Remove", request{Name: name})
			} else {
				_, errs[i] = h.plugin("Mount", request{Name: name, ID: id})
			}
		})
		for i, h := range c.hosts[1:] {
			if errs[0] == nil && errs[i+1] == nil {
				c.t.Errorf("%s: removed on h1 and mounted on %s", name, h.Name())
			}
			if errs[i+1] == nil {
				_, err := h.plugin("Unmount", request{Name: name, ID: id})
				h.must(err)
			}
		}
		if errs[0] == nil {
			removed++
		} else if errs[1] != nil && errs[2] != nil {
			c.t.Errorf("%s: neither removed nor mounted: %v", name, errs)
		}
	}
	c.t.Logf("%d of %d were removed", removed, rounds)
}

func testOwnPool(c *cluster) {
	c.h(1).create("mine", "pool=own")
	c.h(1).sh("mine", "echo 1 >/data/file")
	_, err := c.h(2).trySh("mine", "cat /data/file")
	c.h(2).fails("mount of h1's own", err, `"h1"`, "own")
	if !c.h(2).listed("mine") {
		c.t.Error("h2 doesn't list the volume of h1")
	}
	if files, err := os.ReadDir(c.h(2).Path("own")); err == nil {
		for _, f := range files {
			if left, err := os.ReadDir(c.h(2).Path("own/" + f.Name())); err != nil || len(left) > 0 {
				c.t.Errorf("h2 has %v in its own pool (%v)", left, err)
			}
		}
	}
	want(c.t, "home", c.h(2).inspect("mine").Home, "h1")
	want(c.t, "content", c.h(1).sh("mine", "cat /data/file"), "1")
}

func testMissingPool(c *cluster) {
	c.h(1).create("special", "pool=extra")
	_, err := c.h(2).trySh("special", "true")
	c.h(2).fails("mount", err, "extra", "not configured", "h2", "h1")
	c.h(2).dockerFails([]string{"extra", "not configured", "h2", "h1"}, "volume", "create", "-d", "dvol", "-o", "pool=extra", "other")
	for _, p := range ask[[]pool](c.h(2), "pool", "ls") {
		want(c.t, "hosts of pool "+p.Name, strings.Join(p.Hosts, " "), map[string]string{"data": "h1 h2 h3", "own": "h1 h2 h3", "extra": "h1"}[p.Name])
		want(c.t, "pool "+p.Name+" is shared", p.Shared, p.Name != "own")
	}
}

func testReadOnly(c *cluster) {
	c.h(1).dockerFails([]string{"readonly", "empty"}, "volume", "create", "-d", "dvol", "-o", "access=readonly", "site")
	c.h(1).sh("site", "echo 1 >/data/file")
	c.h(2).start("user", idle, "site:/data")
	c.h(1).dvoldFails([]string{`"h2"`, "stop its containers"}, "volume", "set", "site", "--access", "readonly")
	c.h(2).removeContainers()
	c.h(1).wantHolders("site")
	c.h(1).dvold("volume", "set", "site", "--access", "readonly")
	for _, h := range c.hosts[1:] {
		h.start("reader", idle, "site:/data")
		want(c.t, "what "+h.Name()+" reads", h.docker("exec", "reader", "cat", "/data/file"), "1")
		h.dockerFails([]string{"Read-only file system"}, "exec", "reader", "touch", "/data/new")
	}
	_, err := c.h(1).trySh("site", "echo 2 >/data/file")
	c.h(1).fails("write", err, "Read-only file system")
	c.h(1).dvoldFails([]string{`"h2"`, `"h3"`}, "volume", "set", "site", "--access", "shared")
	c.h(2).removeContainers()
	c.h(3).removeContainers()
	c.h(1).wantHolders("site")
	c.h(1).dvold("volume", "set", "site", "--access", "shared")
	c.h(3).sh("site", "echo 2 >/data/file")
	want(c.t, "content", c.h(2).sh("site", "cat /data/file"), "2")
}
