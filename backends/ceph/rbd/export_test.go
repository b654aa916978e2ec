//go:build ceph && cgo

package rbd

import (
	"context"

	"github.com/dvol/dvold/backends/ceph"
)

// TendInterval is how soon images are seen to.
const TendInterval = tendInterval

// Unlock takes the lock of a volume's image away from who is dead.
func (p *Pool) Unlock(ctx context.Context, handle string) ([]ceph.Address, error) {
	i, err := imageOf(handle)
	if err != nil {
		return nil, err
	}
	return p.unlock(ctx, i)
}

// Known is by which client the image of a volume is mapped, as far as is known.
func (p *Pool) Known(handle string) ceph.Address {
	i, err := imageOf(handle)
	if err != nil {
		return ""
	}
	_, client := p.seen.of(i)
	return client
}

// ByKernel tells whether the kernel maps the pool's images.
func (p *Pool) ByKernel() bool {
	_, ok := p.mapper.(*krbd)
	return ok
}

// Attach maps the image of a volume, whatever the cluster says, and nothing else.
func (p *Pool) Attach(ctx context.Context, handle string) error {
	i, err := imageOf(handle)
	if err == nil {
		_, err = p.mapper.attach(ctx, i, false)
	}
	return err
}
