package volumes

import (
	"context"
	"fmt"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/coordination"
)

// Resize changes what a volume may hold, in bytes; 0 means as much as its pool
// has room for. It may be mounted, here and on other hosts; who mounts it just
// now waits. It returns ErrNotFound, ErrInvalid, also where the pool can't do
// it, or ErrUnavailable.
//
// The storage is changed first and the record then. After a crash between the
// two, or an error other than ErrInvalid, the record may still have the old
// size where the new one holds: the same call again mends that, and so does
// one with the old size. Hence the storage is told even what the record has.
func (m *Manager) Resize(ctx context.Context, name string, size int64) (Volume, error) {
	if err := backends.CheckResize(size, 0); err != nil {
		return Volume{}, fmt.Errorf("volume %.60q: %w", name, err)
	}
	return call(ctx, m, name, func(ctx context.Context) (Volume, func(context.Context), error) {
		r, err := m.resize(ctx, name, size)
		if err != nil {
			return Volume{}, nil, fmt.Errorf("volume %.60q: %w", name, err)
		}
		return m.view(r), nil, nil
	})
}

func (m *Manager) resize(ctx context.Context, name string, size int64) (record, error) {
	r, err := m.look(ctx, name)
	if err != nil {
		return r, err
	}
	if _, err := m.resizable(ctx, r); err != nil {
		return r, err
	}
	r, in, err := m.reserve(ctx, changing, r)
	if err != nil {
		return r, err
	}
	m.step("resize: intent written")
	after, err := m.grow(ctx, r, in, size)
	if err != nil {
		m.giveUp(ctx, in)
		return r, err
	}
	m.known.saw(after)
	m.step("resize: record written")
	m.redescribe(ctx, after)
	m.log.Info("volume resized", "volume", name, "pool", r.Pool, "size", size)
	return after, nil
}

// grow does what the intent announces, and returns the record as it is then. It
// may shrink the volume, too.
func (m *Manager) grow(ctx context.Context, r record, in intent, size int64) (record, error) {
	p, err := m.resizable(ctx, r) // again: there may be another volume of that name by now
	if err != nil {
		return r, err
	}
	err = p.do(ctx, func(b backends.Backend) error {
		return b.(backends.Resizer).Resize(ctx, r.Handle, size)
	})
	if err != nil {
		return r, fmt.Errorf("pool %q: %w", p.Name, err)
	}
	m.step("resize: storage changed")
	r.Size = size
	stored, err := r.at(volumeKey(r.Name))
	if err != nil {
		return r, err
	}
	written, err := m.finish(ctx, in, coordination.Put(stored))
	if err != nil {
		return r, fmt.Errorf("write the record; the new size holds already: %w", err)
	}
	return decode(written[0])
}

// resizable returns the pool of a volume, if that can change its size.
func (m *Manager) resizable(ctx context.Context, r record) (*pool, error) {
	p, err := m.here(ctx, r)
	if err != nil {
		return nil, err
	}
	if _, ok := p.Backend.(backends.Resizer); !ok {
		return nil, fmt.Errorf("size: pool %q (%s) can't limit what a volume holds: choose another pool for it (docs/quotas.md): %w", p.Name, p.Type, ErrInvalid)
	}
	return p, nil
}
