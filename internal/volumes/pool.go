package volumes

import (
	"context"
	"fmt"

	"github.com/dvol/dvold/backends"
)

// poolSlots bounds the calls that may wait for one pool's storage at a time.
// Each may hold a thread that can't be ended.
const poolSlots = 32

// pool is a Pool with its slots. It is a Backend that waits for one.
type pool struct {
	Pool
	slots chan struct{}
}

func newPool(p Pool) *pool { return &pool{Pool: p, slots: make(chan struct{}, poolSlots)} }

// enter waits for a slot. Each call to the backend holds one.
func (p *pool) enter(ctx context.Context) (leave func(), err error) {
	select {
	case p.slots <- struct{}{}:
		return func() { <-p.slots }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("pool %q has %d calls waiting for its storage already: %w", p.Name, poolSlots, ErrUnavailable)
	}
}

// do runs a call to the backend in a slot.
func (p *pool) do(ctx context.Context, call func(backends.Backend) error) error {
	leave, err := p.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return call(p.Backend)
}

// pool returns the pool of that name. ErrUnavailable: another host may have
// it, or a later configuration.
func (m *Manager) pool(name string) (*pool, error) {
	p := m.pools[name]
	if p == nil {
		return nil, fmt.Errorf("pool %q is not configured on host %q: %w", name, m.cfg.Host, ErrUnavailable)
	}
	return p, nil
}
