package cut

import (
	"context"
	"net/netip"
	"os"
)

// For tests in package cut_test.
var (
	Filters  = filters
	UnsentTo = unsentTo
)

// SetControl gives c another FUSE control file system; nil is the kernel's.
func (c *Cutter) SetControl(dir *os.File) {
	c.connections.mu.Lock()
	defer c.connections.mu.Unlock()
	c.connections.control = dir
}

func (f filter) Name() string { return f.name }

func (f filter) Block(ctx context.Context, volume string, servers []netip.Prefix) error {
	return f.block(ctx, volume, servers)
}

func (f filter) Remedy(volume string) string { return f.remedy(volume) }

func (f filter) Unblock(ctx context.Context, volume string) error { return f.unblock(ctx, volume) }
