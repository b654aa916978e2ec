package backends

import (
	"context"
	"net/netip"
)

// Networked is a Backend that reaches its storage through the network.
type Networked interface {
	// Servers are the addresses of other hosts with which there are connections for what is
	// mounted at target, Alone, be they a process's or the kernel's: before it is ended, nothing may
	// reach them any more that was sent or has yet to be. It is asked soon after Mount, and may be
	// incomplete if a server is down.
	Servers(ctx context.Context, handle, target string) ([]netip.Addr, error)
}
