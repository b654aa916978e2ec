package cut

import (
	"context"
	"net/netip"
)

// For tests in package cut_test.
var (
	Filters  = filters
	UnsentTo = unsentTo
)

func (f filter) Name() string { return f.name }

func (f filter) Block(ctx context.Context, volume string, servers []netip.Prefix) error {
	return f.block(ctx, volume, servers)
}

func (f filter) Unblock(ctx context.Context, volume string) error { return f.unblock(ctx, volume) }
