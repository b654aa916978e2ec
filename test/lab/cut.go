package lab

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
)

// Peer is a kind of machine that another can be cut off from.
type Peer string

// The kinds.
const (
	Consul  Peer = "consul"  // the Consul servers, and the gossip of all agents
	Storage Peer = "storage" // the storage servers, and the nodes of GlusterFS and Ceph
	All     Peer = "all"     // whatever is on the network
)

// gossipPort is where Consul's agents and servers tell each other who lives.
const gossipPort = 8301

// peers are all kinds.
var peers = []Peer{Consul, Storage, All}

// Cut drops everything between the machine and a kind of peer, in both
// directions and in silence, until Heal; also over a reboot and for a machine
// that is frozen. Connections stay, and say nothing. One cut adds to another;
// repeated, it changes nothing.
func (m *Machine) Cut(ctx context.Context, from Peer) error {
	if !slices.Contains(peers, from) {
		return fmt.Errorf("cut %s off from %q: it is none of %v", m.name, from, peers)
	}
	return m.setCut(ctx, func(cut map[Peer]bool) { cut[from] = true })
}

// Heal undoes every Cut.
func (m *Machine) Heal(ctx context.Context) error {
	return m.setCut(ctx, func(cut map[Peer]bool) { clear(cut) })
}

// CutOff lists what the machine is cut off from.
func (m *Machine) CutOff() []Peer {
	if m.port == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(m.port.cut))
}

func (m *Machine) setCut(ctx context.Context, change func(map[Peer]bool)) error {
	if m.port == nil {
		return fmt.Errorf("%s is on no network", m.name)
	}
	cut := maps.Clone(m.port.cut)
	change(cut)
	before := m.port.cut
	m.port.cut = cut
	if !m.Up() {
		return nil // it applies from the next boot on
	}
	if err := m.filter(ctx); err != nil {
		m.port.cut = before
		return err
	}
	return nil
}

// filter has the machine's kernel drop what is cut off, and nothing else. The
// chains are replaced in one step.
func (m *Machine) filter(ctx context.Context) error {
	rules := []string{"*filter", ":LAB-IN -", ":LAB-OUT -"}
	if !m.port.chains { // containers may have interfaces of their own
		rules = append(rules, "-I INPUT -i eth0 -j LAB-IN", "-I OUTPUT -o eth0 -j LAB-OUT",
			"-I FORWARD -i eth0 -j LAB-IN", "-I FORWARD -o eth0 -j LAB-OUT")
	}
	for from := range m.port.cut {
		if from == All {
			rules = append(rules, "-A LAB-IN -j DROP", "-A LAB-OUT -j DROP")
		}
		if from == Consul {
			// Who can't reach the servers, and can still say so, has others take
			// them for dead: Consul is made for members that all reach each other.
			for _, protocol := range []string{"tcp", "udp"} {
				rules = append(rules, fmt.Sprintf("-A LAB-IN -p %s --dport %d -j DROP", protocol, gossipPort),
					fmt.Sprintf("-A LAB-OUT -p %s --dport %d -j DROP", protocol, gossipPort))
			}
		}
		for _, address := range m.port.peers[from] {
			rules = append(rules, fmt.Sprintf("-A LAB-IN -s %v -j DROP", address), fmt.Sprintf("-A LAB-OUT -d %v -j DROP", address))
		}
	}
	rules = append(rules, "COMMIT", "")
	cmd := exec.CommandContext(ctx, "iptables-restore", "--noflush")
	cmd.Stdin = strings.NewReader(strings.Join(rules, "\n"))
	if _, err := run(cmd, m.startOutside); err != nil {
		return fmt.Errorf("filter of %s: %w", m.name, err)
	}
	m.port.chains = true
	return nil
}
