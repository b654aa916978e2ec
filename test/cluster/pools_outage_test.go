package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// outageOf is what has no servers for a while: pools, each with the access that its volumes
// have, and how long a call for one of them may take then.
type outageOf struct {
	pools map[string]string
	bound time.Duration
}

// testOutage checks that a host whose pools have no servers says so in time, has other
// pools as ever, and goes on by itself once there are servers.
func (c *cluster) testOutage(o outageOf, begin, end func() error) {
	h := c.h(1)
	for pool, access := range o.pools {
		for _, name := range []string{"held", "idle", "removed"} {
			h.create(pool+"-"+name, "pool="+pool, "access="+access)
		}
		h.start(pool, idle, pool+"-held:/data")
		h.docker("exec", pool, "sh", "-c", "echo kept >/data/file")
	}
	h.create("other", "pool=shared")
	h.must(begin())
	// An answer of the servers is believed for a second (fuseclient.AnswerHolds): what is
	// begun in that has no bound but Docker's.
	time.Sleep(1100 * time.Millisecond)

	type result struct {
		what string
		took time.Duration
		err  error
	}
	calls := make(map[string]func() error)
	for pool, access := range o.pools {
		calls["create "+pool] = func() error {
			_, err := h.plugin("Create", request{Name: pool + "-new", Opts: map[string]string{"pool": pool, "access": access}})
			return err
		}
		calls["remove "+pool] = func() error { _, err := h.plugin("Remove", request{Name: pool + "-removed"}); return err }
		calls["mount "+pool] = func() error {
			_, err := h.plugin("Mount", request{Name: pool + "-idle", ID: strings.Repeat("cd", 32)})
			return err
		}
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
		if r.took > o.bound || r.err == nil && !strings.HasPrefix(r.what, "remove") {
			c.t.Errorf("%s, without servers, took %v, want an error within %v: %v", r.what, r.took, o.bound, r.err)
		}
	}

	h.must(end())
	for pool, access := range o.pools {
		h.eventually("the container reads again", func() error {
			text, err := h.Docker(h.ctx, "exec", pool, "cat", "/data/file")
			if err == nil && text != "kept" {
				err = fmt.Errorf("it reads %q", text)
			}
			return err
		})
		h.eventually("a volume is created", func() error {
			_, err := h.Docker(h.ctx, "volume", "create", "-d", "dvol", "-o", "pool="+pool, "-o", "access="+access, pool+"-after")
			return err
		})
		h.docker("exec", pool, "sh", "-c", "echo more >>/data/file && sync /data/file")
		h.removeContainer(pool)
		want(c.t, "what a new container reads", h.sh(pool+"-held", "cat /data/file"), "kept\nmore")
		h.sh(pool+"-idle", "echo used >/data/file")
	}
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
			if err == nil && !strings.Contains(out, "other") {
				err = fmt.Errorf("other is missing: %s", out)
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
