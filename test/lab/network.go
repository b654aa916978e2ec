package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
)

// network is a switch: a machine with a bridge, and nothing but cables to
// others in it. This machine itself has no part in it.
type network struct{ *Machine }

// start boots the switch.
func (n *network) start(ctx context.Context) error {
	if err := n.Boot(ctx); err != nil {
		return err
	}
	return n.ip(ctx, "link add br0 type bridge", "link set br0 up")
}

// ip changes the machine's network by commands of ip.
func (m *Machine) ip(ctx context.Context, commands ...string) error {
	cmd := exec.CommandContext(ctx, "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n"))
	if _, err := run(cmd, m.startOutside); err != nil {
		return fmt.Errorf("network of %s: %w", m.name, err)
	}
	return nil
}

// port is a machine's place on a network, with the cable to it.
type port struct {
	network *network
	name    string // of the cable's end at the switch
	address netip.Addr
	peers   map[Peer][]netip.Addr // whom it can be cut off from
	cut     map[Peer]bool         // whom it is cut off from; that lasts over a reboot
	chains  bool                  // the machine, since it booted, has chains for that
}

// plug gives a machine that has just booted its interface eth0.
func (p *port) plug(ctx context.Context, m *Machine) error {
	pid, err := m.initPID()
	if err != nil {
		return err
	}
	p.chains = false
	// The same hardware address each time, for others remember it.
	a := p.address.As4()
	err = p.network.ip(ctx,
		fmt.Sprintf("link add %s type veth peer name eth0 address 02:00:%02x:%02x:%02x:%02x netns %d", p.name, a[0], a[1], a[2], a[3], pid),
		fmt.Sprintf("link set %s master br0 up", p.name))
	if err != nil {
		return err
	}
	err = m.ip(ctx, fmt.Sprintf("addr add %v/24 brd + dev eth0", p.address), "link set eth0 up")
	if err != nil || len(p.cut) == 0 {
		return err
	}
	return m.filter(ctx)
}

// unplug removes the cable, at both ends.
func (p *port) unplug() error {
	if !p.network.Up() {
		return nil
	}
	err := p.network.ip(context.Background(), "link delete dev "+p.name)
	if err != nil && strings.Contains(err.Error(), "Cannot find device") {
		return nil // booting failed before there was one
	}
	return err
}

// Address is the machine's own on its network. A machine without network has
// none.
func (m *Machine) Address() netip.Addr {
	if m.port == nil {
		return netip.Addr{}
	}
	return m.port.address
}
