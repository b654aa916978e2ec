package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"time"
)

// Server is a machine with a Consul server.
type Server struct {
	*Machine
	Consul *Daemon
}

// newConsul describes a machine's Consul, a server or an agent. The machine's
// own clients reach it at 127.0.0.1:8500.
func newConsul(m *Machine, binary string) *Daemon {
	argv := func(args []string) []string {
		return append([]string{binary, "agent", "-config-format", "json", "-config-file", m.Path("consul.json"), "-data-dir", m.Path("consul")}, args...)
	}
	answers := func(ctx context.Context) error {
		leader, err := consulLeader(ctx, m)
		if err == nil && leader == "" {
			err = errors.New("there is no leader")
		}
		return err
	}
	prepare := func(cmd *exec.Cmd) error {
		cmd.Env = append(cmd.Env, "GOMAXPROCS=1")
		return nil
	}
	return &Daemon{name: "consul", m: m, argv: argv, answers: answers, patience: 90 * time.Second, prepare: prepare}
}

// writeConsulConfig writes what a machine's Consul is to read.
func writeConsulConfig(m *Machine, servers []netip.Addr, server bool) error {
	c := map[string]any{
		"node_name":            m.name,
		"datacenter":           "lab",
		"bind_addr":            m.Address(),
		"client_addr":          "127.0.0.1",
		"retry_join":           servers,
		"retry_interval":       "200ms", // all start at once
		"performance":          map[string]any{"raft_multiplier": 1},
		"ports":                map[string]any{"dns": -1},
		"disable_update_check": true,
		// Gossip is for much larger networks: with five times less of it, and one
		// thread at a time, one of these takes two thirds of the processor. How
		// often others are probed stays: a dead server is to be found in seconds.
		"gossip_lan":          map[string]any{"gossip_interval": "1s"},
		"disable_coordinates": true,
	}
	if server {
		c["server"], c["bootstrap_expect"] = true, len(servers)
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(m.Path("consul.json"), text, 0o644)
}

// consulLeader asks the Consul on m for the address of the leader; empty means
// that it knows of none.
func consulLeader(ctx context.Context, m *Machine) (leader string, err error) {
	text, err := askConsul(ctx, m, http.MethodGet, "status/leader")
	if err != nil {
		return "", err
	}
	return leader, json.Unmarshal(text, &leader)
}

// askConsul is AskConsul for what is answered at once.
func askConsul(ctx context.Context, m *Machine, method, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return m.AskConsul(ctx, method, path, nil)
}

// Rejoin has the machine's Consul look for the servers now. Left alone after a
// cut of more than some seconds, it takes up to minutes to find that they are
// back.
func (m *Machine) Rejoin(ctx context.Context) error {
	var err error
	for _, server := range m.port.peers[Consul] {
		if _, err = askConsul(ctx, m, http.MethodPut, "agent/join/"+server.String()); err == nil {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("have %s join Consul: %w", m.name, err)
	}
	return nil
}

// Leader is the server that the others take for the leader. Nobody is asked,
// nor believed to be it, who is down, frozen or cut off.
func (c *Cluster) Leader(ctx context.Context) (*Server, error) {
	byAddress := make(map[string]*Server)
	for _, s := range c.servers {
		if s.Consul.Running() && !s.Frozen() && len(s.CutOff()) == 0 {
			byAddress[netip.AddrPortFrom(s.Address(), 8300).String()] = s
		}
	}
	err := errors.New("there is none")
	for _, s := range byAddress {
		address, asked := consulLeader(ctx, s.Machine)
		if leader, ok := byAddress[address]; ok {
			return leader, nil
		}
		if asked != nil {
			err = asked
		}
	}
	return nil, fmt.Errorf("find Consul's leader: %w", err)
}
