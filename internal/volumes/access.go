package volumes

import (
	"context"
	"fmt"

	"github.com/dvol/dvold/coordination"
)

// SetAccess changes who may have a volume mounted: one that was filled can be
// made readonly, and writable again. Nobody may hold it, and nobody can start
// to until it is changed. It returns ErrNotFound, ErrInvalid, ErrInUse, naming
// the holders, or ErrUnavailable.
func (m *Manager) SetAccess(ctx context.Context, name string, access Access) (Volume, error) {
	if _, err := parseAccess(string(access)); err != nil {
		return Volume{}, fmt.Errorf("volume %.60q: access %.60q: %w: %w", name, access, err, ErrInvalid)
	}
	return call(ctx, m, name, func(ctx context.Context) (Volume, func(context.Context), error) {
		r, err := m.setAccess(ctx, name, access)
		if err != nil {
			return Volume{}, nil, fmt.Errorf("volume %.60q: %w", name, err)
		}
		return m.view(r), nil, nil
	})
}

func (m *Manager) setAccess(ctx context.Context, name string, access Access) (record, error) {
	r, err := m.look(ctx, name)
	if err != nil || r.Access == access {
		return r, err
	}
	if err := m.vacate(ctx, name, nil); err != nil {
		return r, err
	}
	r, in, err := m.reserve(ctx, changing, r)
	if err != nil {
		return r, err
	}
	m.step("set access: intent written")
	if err = m.unheld(ctx, name); err == nil {
		r.Access = access
		var stored coordination.Record
		if stored, err = r.at(volumeKey(name)); err == nil {
			var written []coordination.Record
			if written, err = m.finish(ctx, in, coordination.Put(stored)); err == nil {
				r.version, r.stored = written[0].Version, stored.Value
				m.known.saw(r)
			}
		}
	}
	if err != nil {
		m.giveUp(ctx, in)
		return r, err
	}
	m.step("set access: record written")
	m.redescribe(ctx, r)
	m.log.Info("volume's access changed", "volume", name, "access", access)
	return r, nil
}
