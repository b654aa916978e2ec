package cluster_test

import (
	"fmt"
	"os"
	"strings"
)

// stack is a service that writes to a volume where it runs. It has the host's
// network, so that the engines need neither an ingress nor an overlay network.
const stack = `
version: "3.8"
services:
  writer:
    image: lab/busybox
    environment: ["NODE={{.Node.Hostname}}"]
    command: sh -c 'echo $$NODE >>/data/hosts; exec sleep 1000'
    networks: [host]
    volumes: ["swarm:/data"]
    stop_grace_period: 0s
networks:
  host: {external: true, name: host}
volumes:
  swarm: {driver: dvol, name: swarm, driver_opts: {mode: "0750"}}
`

func testSwarm(c *cluster) {
	manager := c.startSwarm()
	manager.deploy("stack.yaml", stack)
	first := c.wantWriters(1)[0]
	manager.wantHolders("swarm", first)
	manager.docker("node", "update", "--availability", "drain", first)
	second := c.wantWriters(2)[1]
	if second == first {
		c.t.Errorf("the service still runs on %s", first)
	}
	manager.wantHolders("swarm", second)
	manager.docker("stack", "rm", "s")
	manager.wantHolders("swarm")
	c.endSwarm()
}

// startSwarm makes all hosts a swarm and returns the manager, h1.
func (c *cluster) startSwarm() *host {
	c.t.Helper()
	manager := c.h(1)
	manager.docker("swarm", "init", "--advertise-addr", manager.Address().String())
	token := manager.docker("swarm", "join-token", "-q", "worker")
	for _, h := range c.hosts[1:] {
		h.docker("swarm", "join", "--token", token, manager.Address().String()+":2377")
	}
	return manager
}

// deploy deploys the stack s.
func (h *host) deploy(file, text string) {
	h.t.Helper()
	h.must(os.WriteFile(h.Path(file), []byte(text), 0o644))
	h.docker("stack", "deploy", "--compose-file", h.Path(file), "s")
}

// endSwarm waits until nothing is left of a stack that was removed, and ends the
// swarm.
func (c *cluster) endSwarm() {
	c.t.Helper()
	for _, h := range c.hosts {
		// Swarm removes its containers by itself, after it has let go of their
		// volumes; a removal of ours would collide with it.
		h.eventually("removal of the tasks", func() error {
			if ids := h.docker("ps", "-aq"); ids != "" {
				return fmt.Errorf("there are still %q", strings.Fields(ids))
			}
			return nil
		})
	}
	for _, h := range c.hosts {
		h.docker("swarm", "leave", "--force")
	}
}

// wantWriters waits until so many tasks have written to the volume, and returns
// on which hosts.
func (c *cluster) wantWriters(n int) (hosts []string) {
	c.t.Helper()
	c.h(1).eventually("tasks", func() error {
		if !c.h(1).listed("swarm") {
			return fmt.Errorf("there is no volume")
		}
		text, err := os.ReadFile(c.data("swarm") + "/hosts")
		if hosts = strings.Fields(string(text)); err != nil || len(hosts) < n {
			return fmt.Errorf("%d have written on %v (%w), want %d", len(hosts), hosts, err, n)
		}
		return nil
	})
	return hosts
}
