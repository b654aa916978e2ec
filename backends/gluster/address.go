package gluster

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/fuseclient"
	"github.com/dvol/dvold/internal/host"
)

// bindOption has a client reach the bricks from that address and no other, so
// that it is the one to reject; client_bind in GlusterFS's rpc-transport/socket/src/name.c.
func bindOption(source string) string {
	return "--xlator-option=*.transport.socket.source-addr=" + source
}

// source is the address from which the clients of exclusive volumes reach the
// bricks: the configured one, or the one that this host has for its way there. It
// returns ErrCannotFence if there is no address that is a client's alone.
func (p *Pool) source(ctx context.Context, servers []string) (netip.Addr, error) {
	none := netip.Addr{}
	var sources, theirs []netip.Addr
	for _, server := range servers {
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", server)
		if err != nil {
			return none, fmt.Errorf("address of server %s: %w: %w", server, backends.ErrUnavailable, err)
		}
		for _, a := range found {
			theirs = append(theirs, a.Unmap())
		}
		here, err := host.SourceTo(ctx, net.JoinHostPort(server, glusterdPort))
		if err != nil {
			return none, fmt.Errorf("way to server %s: %w: %w", server, backends.ErrUnavailable, err)
		}
		if !slices.Contains(sources, here) {
			sources = append(sources, here)
		}
	}
	if p.config.ClientAddress != "" {
		sources = []netip.Addr{netip.MustParseAddr(p.config.ClientAddress)} // Validate parses it
	}
	switch {
	case len(sources) != 1:
		return none, fmt.Errorf("it has several addresses on its ways to the bricks, %v: set client_address to one that reaches all: %w", sources, backends.ErrCannotFence)
	case slices.Contains(theirs, sources[0]):
		return none, fmt.Errorf("%s, from which it reaches the bricks, is a server's, which a fence would cut off, too: give this host another address, and set client_address to that: %w", sources[0], backends.ErrCannotFence)
	}
	return sources[0], nil
}

// recordedSource is the address that was recorded for a volume in a Gluster volume,
// if it is one that is fenced so.
func recordedSource(id *backends.Identity, volume string) (source netip.Addr, fenced bool, err error) {
	if id == nil || !strings.HasPrefix(id.Domain, domainPrefix) {
		return source, false, nil
	}
	source, err = netip.ParseAddr(id.Facts[factAddress])
	if err != nil || id.Facts[factVolume] != volume {
		return source, false, fmt.Errorf("what was recorded to fence this host by, %q, is not of Gluster volume %s: %w", id.Domain, volume, backends.ErrUnavailable)
	}
	return source, true, nil
}

// checkSeen returns nil once the bricks see all connections of a client of this
// host just as this host does, and from its source: else what is rejected may be
// somebody else.
func (p *Pool) checkSeen(ctx context.Context, c *fuseclient.Client, volume string, source netip.Addr) error {
	var problem error
	for {
		mine, err := c.Connections()
		if err != nil {
			return err
		}
		seen, err := p.manage.seenClients(ctx, volume)
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w: %w", cmp.Or(problem, err), backends.ErrUnavailable, context.Cause(ctx))
		}
		if err != nil {
			return err
		}
		if problem = strayConnection(mine, seen, source); problem == nil {
			return nil
		}
		pause(ctx, pendingPause) // a brick counts it a moment later
	}
}

// strayConnection returns what is wrong with the connections of a client: those to
// bricks, which are all but the one to glusterd, must be among those that bricks
// have.
func strayConnection(mine []host.Connection, seen map[string][]netip.AddrPort, source netip.Addr) error {
	bricks := 0
	for _, c := range mine {
		if fmt.Sprint(c.Remote.Port()) == glusterdPort {
			continue
		}
		known := false
		for _, clients := range seen {
			known = known || slices.Contains(clients, c.Local)
		}
		switch {
		case c.Local.Addr() != source:
			return fmt.Errorf("its client reaches brick %s from %s, not from %s", c.Remote, c.Local.Addr(), source)
		case !known:
			return fmt.Errorf("no brick says that %s is its client: the bricks must see the address of this host", c.Local)
		}
		bricks++
	}
	if bricks == 0 {
		return fmt.Errorf("its client is connected to no brick")
	}
	return nil
}
