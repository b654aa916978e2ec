package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// All servers end at once, and say so.
func testGlusterAllServersEnd(c *cluster) {
	c.testGlusterOutage(
		func() error { return c.Gluster().Kill(c.Gluster().Nodes()...) },
		func() error { return c.StartGluster(c.t.Context()) })
}

// A host is cut off from all servers, in silence.
func testGlusterCutOff(c *cluster) {
	h := c.h(1)
	c.testGlusterOutage(
		func() error { return h.Cut(h.ctx, lab.Storage) },
		func() error { return h.Heal(h.ctx) })
}

// testGlusterOutage checks that a host whose pool has no servers says so in time,
// and has other pools as ever.
func (c *cluster) testGlusterOutage(begin, end func() error) {
	h := c.h(1)
	h.start("holder", idle, "-v", "held:/data")
	h.docker("exec", "holder", "sh", "-c", "echo kept >/data/file")
	h.create("idle") // nobody has it
	h.create("removed")
	h.create("other", "-o", "pool=shared")
	h.must(begin())

	// Who asks just after the servers have answered waits for as long as the client,
	// which notices silence after one to two times 5 s (lab.Gluster).
	const bound = max(mountTimeout, 2*5*time.Second) + 5*time.Second
	type result struct {
		what string
		took time.Duration
		err  error
	}
	calls := map[string]func() error{
		"create": func() error {
			_, err := h.plugin("Create", request{Name: "new", Opts: map[string]string{"pool": "gluster"}})
			return err
		},
		"remove": func() error { _, err := h.plugin("Remove", request{Name: "removed"}); return err },
		"mount": func() error {
			_, err := h.plugin("Mount", request{Name: "idle", ID: strings.Repeat("cd", 32)})
			return err
		},
	}
	results := make(chan result, len(calls))
	for what, call := range calls {
		go func() {
			began := time.Now()
			err := call()
			results <- result{what, time.Since(began), err}
		}()
	}
	c.wantOthersPrompt(h)
	for range calls {
		r := <-results
		c.t.Logf("%s: %v: %v", r.what, r.took.Round(time.Millisecond), r.err)
		// What is removed is gone for Docker at once; its data goes when it can.
		if r.took > bound || r.err == nil && r.what != "remove" {
			c.t.Errorf("%s, without servers, took %v, want an error within %v: %v", r.what, r.took, bound, r.err)
		}
	}

	h.must(end())
	h.eventually("the container reads again", func() error {
		text, err := h.Docker(h.ctx, "exec", "holder", "cat", "/data/file")
		if err == nil && text != "kept" {
			err = fmt.Errorf("it reads %q", text)
		}
		return err
	})
	h.eventually("a volume is created", func() error {
		_, err := h.Docker(h.ctx, "volume", "create", "-d", "dvol", "after")
		return err
	})
	want(c.t, "what a new container reads", h.sh("held", "cat /data/file"), "kept")
	h.sh("idle", "echo used >/data/file")
}

// wantOthersPrompt checks that what does not need the servers is not slower for
// their absence.
func (c *cluster) wantOthersPrompt(h *host) {
	c.t.Helper()
	id := strings.Repeat("ef", 32)
	took := make(map[string][]time.Duration)
	timed := func(what string, do func() error) {
		c.t.Helper()
		began := time.Now()
		err := do()
		took[what] = append(took[what], time.Since(began))
		if err != nil {
			c.t.Errorf("%s in another pool: %v", what, err)
		}
	}
	for i := range 5 {
		name := fmt.Sprint("quick", i)
		timed("docker volume ls", func() error {
			out, err := h.Docker(h.ctx, "volume", "ls", "-q")
			if err == nil && !strings.Contains(out, "held") {
				err = fmt.Errorf("held is missing: %s", out)
			}
			return err
		})
		timed("docker volume create", func() error {
			_, err := h.Docker(h.ctx, "volume", "create", "-d", "dvol", "-o", "pool=shared", name)
			return err
		})
		timed("mount", func() error { _, err := h.plugin("Mount", request{Name: "other", ID: id}); return err })
		timed("unmount", func() error { _, err := h.plugin("Unmount", request{Name: "other", ID: id}); return err })
	}
	for what, all := range took {
		slices.Sort(all)
		median := all[len(all)/2]
		c.t.Logf("%s: median %v, longest %v", what, median.Round(time.Millisecond), all[len(all)-1].Round(time.Millisecond))
		if median > time.Second {
			c.t.Errorf("%s took %v on median", what, median)
		}
	}
}
