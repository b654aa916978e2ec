package volumes

import (
	"context"
	"fmt"
	"strings"
	"time"

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

// silent is for how long the pool's storage is known not to have answered this
// host. It asks nothing of it.
func (p Pool) silent() time.Duration {
	if w, ok := p.Backend.(backends.Watched); ok {
		return w.Silent()
	}
	return 0
}

// enter waits for a slot. Each call to the backend holds one.
func (p *pool) enter(ctx context.Context) (leave func(), err error) {
	leave = func() { <-p.slots }
	select {
	case p.slots <- struct{}{}:
		return leave, nil
	default:
	}
	select {
	case p.slots <- struct{}{}:
		return leave, nil
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

// pool returns the pool of that name, or ErrUnavailable: another host may have
// it, or a later configuration.
func (m *Manager) pool(ctx context.Context, name string) (*pool, error) {
	if p := m.pools[name]; p != nil {
		return p, nil
	}
	err := fmt.Errorf("pool %q is not configured on host %q", name, m.cfg.Host)
	if hosts, _ := m.hostsOf(ctx, name); len(hosts) > 0 {
		err = fmt.Errorf("%w, but on %s", err, strings.Join(hosts, ", "))
	}
	return nil, notNow{err}
}

// sole tells whether the file system that an exclusive volume is mounted from is
// mounted for it alone.
func (m *Manager) sole(e entry) bool {
	p := m.pools[e.Pool]
	return p != nil && p.Alone
}

// homeOf is what a new volume's record says of the pool: the host, if it is
// that host's alone.
func (m *Manager) homeOf(p *pool) *home {
	if p.Shared {
		return nil
	}
	return &home{Host: m.cfg.Host, HostID: m.me.ID}
}

// ours says whether this host's pool of that name is the one that has the
// volume.
func (m *Manager) ours(r record) bool { return r.Home == nil || r.Home.HostID == m.me.ID }

// here returns the pool that has the volume, or ErrUnavailable if that is not
// on this host.
func (m *Manager) here(ctx context.Context, r record) (*pool, error) {
	if !m.ours(r) {
		return nil, unavailablef("its data is in pool %q of host %q alone, and this is host %q: use it there, or make it in a pool that is shared", r.Pool, r.Home.Host, m.cfg.Host)
	}
	return m.pool(ctx, r.Pool)
}
