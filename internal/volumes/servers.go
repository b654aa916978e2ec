package volumes

import (
	"context"
	"net/netip"
	"slices"

	"github.com/dvol/dvold/backends"
)

// serversOf are the addresses at which an exclusive volume that was mounted just
// now has its storage, as far as its backend knows: their traffic is blocked
// before the volume is cut off.
func (m *Manager) serversOf(e entry) []netip.Prefix {
	p := m.pools[e.Pool]
	if p == nil || !p.Alone {
		return nil
	}
	n, ok := p.Backend.(backends.Networked)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(m.background, patience)
	defer cancel()
	found, err := n.Servers(ctx, e.Handle, m.target(e.ID))
	if err != nil {
		m.log.Warn("it is not known where a volume has its storage: set exclusive.servers of the pool", "volume", e.Name, "pool", e.Pool, "err", err)
		return nil
	}
	var servers []netip.Prefix
	for _, a := range found {
		servers = append(servers, netip.PrefixFrom(a, a.BitLen()))
	}
	return servers
}

// union is what is in either.
func union(a, b []netip.Prefix) []netip.Prefix {
	all := slices.Clone(a)
	for _, p := range b {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}
