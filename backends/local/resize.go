package local

import (
	"context"
	"fmt"

	"github.com/dvol/dvold/backends"
)

// Resize changes what a volume may hold. Adopted data can't have a size.
func (p *Pool) Resize(ctx context.Context, handle string, size int64) error {
	if err := p.resize(ctx, handle, size); err != nil {
		return fmt.Errorf("resize volume %s: %w", handle, classify(err))
	}
	return nil
}

func (p *Pool) resize(ctx context.Context, handle string, size int64) error {
	if err := backends.CheckResize(size, 0); err != nil {
		return err
	}
	root, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer root.Close()
	dir, err := openVolume(root, handle)
	if err != nil {
		return err
	}
	defer dir.Close()
	if _, made := madeName(handle); !made {
		return fmt.Errorf("size: what was adopted cannot get one: %w", backends.ErrInvalid)
	}
	return p.limiter.Resize(ctx, dir, handle, size)
}
