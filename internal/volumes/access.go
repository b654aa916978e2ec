package volumes

import (
	"context"
	"fmt"

	"github.com/dvol/dvold/coordination"
)

// access is what a new volume has that asks for s.
func (p *pool) access(s settings) (Access, error) {
	access := s.access
	if access == "" {
		access = AccessShared
		if p.OneWriter {
			access = AccessExclusive
		}
	}
	if access != AccessExclusive && (s.takeover != "" || s.mountWait != nil) {
		return "", fmt.Errorf("options takeover and mount_wait are for access=%s: %w", AccessExclusive, ErrInvalid)
	}
	return access, p.admits(access)
}

// admits returns ErrInvalid for what no volume of the pool can be.
func (p *pool) admits(access Access) error {
	if access == AccessShared && p.OneWriter {
		return fmt.Errorf("access=%s: a volume of pool %q has one writer at a time: %s, or %s once it is filled: %w", access, p.Name, AccessExclusive, AccessReadOnly, ErrInvalid)
	}
	return nil
}

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
	if p := m.pools[r.Pool]; p != nil { // elsewhere its Backend says so once it is mounted
		if err := p.admits(access); err != nil {
			return r, err
		}
	}
	if err := m.vacate(ctx, name, nil); err != nil {
		return r, err
	}
	r, written, err := m.alone(ctx, changing, "set access", r, func(r record) ([]coordination.Op, error) {
		r.Access = access
		stored, err := r.at(volumeKey(name))
		return []coordination.Op{coordination.Put(stored)}, err
	})
	if err != nil {
		return r, err
	}
	if r, err = decode(written[0]); err != nil {
		return r, err
	}
	m.known.saw(r)
	m.step("set access: record written")
	m.redescribe(ctx, r)
	m.log.Info("volume's access changed", "volume", name, "access", access)
	return r, nil
}
