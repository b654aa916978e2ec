package backends

import (
	"context"
	"net/netip"
)

// Networked is a Backend that reaches its storage by a process for each volume
// that is mounted Alone.
type Networked interface {
	// Servers are the addresses of other hosts that the process has connections with
	// which serves what is mounted at target, Alone: before it is ended, nothing may reach them
	// any more that it has sent or has yet to send. It is asked soon after Mount,
	// and may be incomplete if a server is down.
	Servers(ctx context.Context, handle, target string) ([]netip.Addr, error)
}
