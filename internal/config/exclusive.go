package config

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"time"

	"go.yaml.in/yaml/v3"
)

// Exclusive says what a pool does about volumes that one host writes at a time.
// What is empty depends on whether the pool can fence.
type Exclusive struct {
	Takeover      string   `yaml:"takeover"`        // auto, manual, never or empty
	OnSessionLoss string   `yaml:"on_session_loss"` // keep, cut or empty
	MountWait     Duration `yaml:"mount_wait"`      // 0 to 90 s
	AcceptLease   bool     `yaml:"accept_lease"`    // never with Takeover manual or never

	// The command that fences instead of the pool's own means, if there is one.
	FenceCommand []string          `yaml:"fence_command"` // an absolute path and arguments
	FenceTimeout Duration          `yaml:"fence_timeout"` // 1 s to 80 s
	FenceCovers  string            `yaml:"fence_covers"`  // volume, pool or host
	FenceFacts   map[string]string `yaml:"fence_facts"`   // of this host

	Servers []Network `yaml:"servers"` // of the storage
}

func defaultExclusive() Exclusive {
	return Exclusive{MountWait: Duration{30 * time.Second}, FenceTimeout: Duration{20 * time.Second}, FenceCovers: "volume"}
}

// setExclusive reads the section of the pool.
func (p *Pool) setExclusive(node *yaml.Node) error {
	const section = ".exclusive"
	if err := p.check(node, reflect.TypeFor[Exclusive](), p.path+section); err != nil {
		return err
	}
	if err := withoutNulls(node).Decode(&p.Exclusive); err != nil {
		return located(p.file, err)
	}
	for key, value := range pairs(node) {
		if isNull(value) {
			continue
		}
		if err := p.Exclusive.checkKey(key.Value, value.Value); err != nil {
			return fmt.Errorf("%s:%d: %s%s.%s: %w", p.file, value.Line, p.path, section, key.Value, err)
		}
	}
	return nil
}

// checkKey returns what is wrong with a key that was set, to text if that is
// what it takes.
func (e Exclusive) checkKey(key, text string) error {
	switch key {
	case "takeover":
		return oneOf(e.Takeover, "auto", "manual", "never")
	case "on_session_loss":
		return oneOf(e.OnSessionLoss, "keep", "cut")
	case "mount_wait":
		return between(e.MountWait, text, 0, 90*time.Second)
	case "accept_lease":
		if e.AcceptLease && (e.Takeover == "manual" || e.Takeover == "never") {
			return fmt.Errorf("it is about takeover: auto, and takeover is %s: leave this out", e.Takeover)
		}
	case "fence_command":
		if len(e.FenceCommand) == 0 {
			return errors.New("want a program and its arguments")
		}
		_, err := absolute(e.FenceCommand[0])
		return err
	case "fence_timeout", "fence_covers", "fence_facts":
		if len(e.FenceCommand) == 0 {
			return errors.New("it is of a fence_command, and there is none: set that, too, or leave this out")
		}
		switch key {
		case "fence_timeout":
			return between(e.FenceTimeout, text, time.Second, 80*time.Second)
		case "fence_covers":
			return oneOf(e.FenceCovers, "volume", "pool", "host")
		}
	}
	return nil
}

// between returns an error unless d, which text says, is in a range.
func between(d Duration, text string, shortest, longest time.Duration) error {
	if d.Duration < shortest || d.Duration > longest {
		return fmt.Errorf("%q is not between %gs and %gs", text, shortest.Seconds(), longest.Seconds())
	}
	return nil
}

// Network is a server's address, or a network that servers are in.
type Network struct{ netip.Prefix }

// UnmarshalText reads what the configuration says. It refuses what dvold must
// not block: this host itself, and everything.
func (n *Network) UnmarshalText(text []byte) error {
	p, err := netip.ParsePrefix(string(text))
	if a, addrErr := netip.ParseAddr(string(text)); err != nil && addrErr == nil && a.Zone() == "" {
		p = netip.PrefixFrom(a, a.BitLen())
	}
	switch a := p.Addr(); {
	case !p.IsValid() || a.Is4In6():
		return fmt.Errorf("%q is not an address or a network, such as 10.0.0.1, 10.0.0.0/24 or fd00::/64", text)
	case p != p.Masked():
		return fmt.Errorf("%q is not a network: want %v, or the one address %v", text, p.Masked(), a)
	case p.Bits() == 0:
		return fmt.Errorf("%q is every address there is", text)
	case p.Overlaps(netip.MustParsePrefix("127.0.0.0/8")) || p.Contains(netip.IPv6Loopback()):
		return fmt.Errorf("%q is this host itself", text)
	}
	n.Prefix = p
	return nil
}
