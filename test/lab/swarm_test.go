package lab_test

import (
	"os"
	"strings"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

// stack is a service with a volume. It has the host's network, so that the
// engines need neither an ingress nor an overlay network.
const stack = `
version: "3.8"
services:
  writer:
    image: ` + lab.BusyBox + `
    environment: ["NODE={{.Node.Hostname}}"]
    command: sh -c 'echo $$NODE >>/data/hosts; exec sleep 1000'
    networks: [host]
    volumes: ["data:/data"]
    stop_grace_period: 100ms
networks:
  host: {external: true, name: host}
volumes:
  data: {driver: dvol, name: data}
`

func TestSwarmFindsVolumeOnAnotherHost(t *testing.T) {
	t.Parallel()
	c := lab.ClusterForTest(t, lab.ClusterOptions{Servers: 1, Dvold: buildDvold(t), Configure: shared})
	if err := os.Mkdir(c.Path("shared/pool"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	manager := c.Host(1)
	docker(t, manager, "swarm", "init", "--advertise-addr", manager.Address().String())
	token := docker(t, manager, "swarm", "join-token", "-q", "worker")
	for _, h := range c.Hosts()[1:] {
		docker(t, h, "swarm", "join", "--token", token, manager.Address().String()+":2377")
	}
	file := c.Path("stack.yaml")
	if err := os.WriteFile(file, []byte(stack), 0o644); err != nil {
		t.Fatal(err)
	}
	docker(t, manager, "stack", "deploy", "--compose-file", file, "s")

	written := func() []string {
		for _, h := range c.Hosts() {
			if id := docker(t, h, "ps", "-q", "--filter", "label=com.docker.stack.namespace=s"); id != "" {
				// It may end meanwhile.
				text, _ := h.Docker(t.Context(), "exec", strings.Fields(id)[0], "cat", "/data/hosts")
				return strings.Fields(text)
			}
		}
		return nil
	}
	eventually(t, "the service starts", func() bool { return len(written()) == 1 })
	first := written()[0]
	docker(t, manager, "node", "update", "--availability", "drain", first)
	eventually(t, "the service moves and finds what it wrote", func() bool { return len(written()) == 2 })
	if got := written(); got[0] != first || got[1] == first {
		t.Errorf("the volume has been written on %v, want %s and another", got, first)
	}
	docker(t, manager, "stack", "rm", "s")
}

// shared is a configuration with a pool in /shared.
func shared(string) string {
	return `coordination: {type: consul, lease_ttl: 10s}
pools:
  shared: {type: local, path: /shared/pool, shared: true}
`
}

func buildDvold(t *testing.T) string {
	t.Helper()
	lab.Require(t)
	bin, err := lab.BuildDvold(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	return bin
}
