package cluster_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// TestReboot reboots hosts whose container, with many volumes, comes back by
// itself: dockerd and dvold start in either order, with Consul and without.
func TestReboot(t *testing.T) {
	c := ownCluster(t, 5, 1)
	observer := c.h(5)
	for i, test := range []struct {
		name        string
		away        bool
		dockerFirst bool
	}{
		{"dvold first", false, false},
		{"dockerd first", false, true},
		{"dvold first without Consul", true, false},
		{"dockerd first without Consul", true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := &cluster{Cluster: c.Cluster, t: t, hosts: c.hosts}
			h, other := c.h(i+1).in(t, t.Context()), observer.in(t, t.Context())
			names := h.manyVolumes()
			c.wantBeating(names[0])
			h.must(h.Kill())
			other.dockerFails([]string{fmt.Sprintf("%q", h.Name())}, "volume", "rm", names[1])
			if test.away {
				h.must(h.Cut(h.ctx, lab.Consul))
			}
			h.must(h.Boot(h.ctx))
			began := time.Now()
			h.startBoth(test.dockerFirst, test.away)
			h.eventually("container runs again", func() error {
				out, err := h.Docker(h.ctx, "inspect", "many", "--format", "{{.State.Running}} {{.State.Error}}")
				if err == nil && out != "true" {
					err = fmt.Errorf("running, error: %s", out)
				}
				return err
			})
			t.Logf("back after %v", time.Since(began).Round(time.Millisecond))
			h.wantMounts(len(names))
			c.wantBeating(names[0])
			want(t, "what is there", h.docker("exec", "many", "sh", "-c", "cat /data/name /v*/name | wc -l"), fmt.Sprint(len(names)))
			if test.away {
				h.must(h.Heal(h.ctx))
				h.must(h.Rejoin(h.ctx))
			}
			other.wantLive(h.Name(), true)
			h.eventually("holdings", func() error {
				m, err := other.member(h.Name())
				if err == nil && m.Holds != len(names) {
					err = fmt.Errorf("they are %d", m.Holds)
				}
				return err
			})
			other.dockerFails([]string{fmt.Sprintf("%q", h.Name()), "stop its containers there"}, "volume", "rm", names[1])
			h.removeContainers()
			h.wantMounts(0)
			other.wantHolders(names[1])
		})
	}
}

// manyVolumes starts a container with 50 volumes, which beats in the first. It
// returns their names.
func (h *host) manyVolumes() (names []string) {
	h.t.Helper()
	many := lab.Container{Name: "many", Driver: "dvol", Restart: "always",
		Command: []string{"sh", "-c", "for v in /data /v*; do echo $v >$v/name; done; " + beat}}
	for i := range 50 {
		name := fmt.Sprintf("%s-%d", h.Name(), i)
		at := fmt.Sprintf("/v%d", i)
		if i == 0 {
			at = "/data"
		}
		names = append(names, name)
		many.Binds = append(many.Binds, name+":"+at)
	}
	h.must(h.Run(h.ctx, many))
	return names
}

// startBoth starts Consul's agent, dockerd and dvold after a boot.
func (h *host) startBoth(dockerFirst, away bool) {
	h.t.Helper()
	var all sync.WaitGroup
	defer all.Wait()
	if !away {
		h.must(h.Agent.Start(h.ctx))
	} else {
		// It never finds a leader, so nobody waits for it to be ready.
		ctx, cancel := context.WithTimeout(h.ctx, time.Second)
		defer cancel()
		if err := h.Agent.Start(ctx); err == nil || !strings.Contains(err.Error(), "deadline") {
			h.t.Fatalf("start of an agent that is cut off: %v", err)
		}
	}
	if dockerFirst {
		all.Go(func() {
			if err := h.StartDocker(h.ctx); err != nil {
				h.t.Error(err)
			}
		})
		h.eventually("dockerd runs", func() error {
			_, err := os.Stat(h.Path("run/docker.pid"))
			return err
		})
		time.Sleep(time.Second) // nothing tells that the engine has asked for dvold in vain
		h.must(h.StartDvold(h.ctx))
		return
	}
	h.must(h.StartDvold(h.ctx))
	h.must(h.StartDocker(h.ctx))
}
