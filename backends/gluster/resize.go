package gluster

import (
	"context"
	"fmt"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
)

var _ backends.Resizer = (*Pool)(nil)

// Resize changes what a volume may hold, unless it is a whole Gluster volume. It
// takes management, and the quota of the pool's Gluster volume.
func (p *Pool) Resize(ctx context.Context, handle string, size int64) error {
	if isWhole(handle) {
		return wrap("resize", handle, fmt.Errorf("size: it is a Gluster volume's: see to the quota of that: %w", backends.ErrInvalid))
	}
	return wrap("", handle, p.with(ctx, func(d *local.Pool) error { return d.Resize(ctx, handle, size) }))
}

// limiter is how volumes in the pool's Gluster volume are limited.
func (p *Pool) limiter() local.Limiter {
	return quota{manage: p.manage, volume: p.config.Volume, subdir: p.config.Subdir, log: p.log}
}
