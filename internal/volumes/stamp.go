package volumes

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/coordination"
)

// stamp is what lies with an exclusive volume, where containers can't see it:
// who mounted it last. It finds out that the records went back in time; it
// keeps nobody from writing.
type stamp struct {
	Schema  int    `json:"schema"`
	Cluster string `json:"cluster"` // its ID
	Volume  string `json:"volume"`  // its ID
	Epoch   uint64 `json:"epoch"`
	Host    string `json:"host"`
}

// stampEpoch puts this host's epoch onto a volume that it owns, before it mounts
// it.
func (m *Manager) stampEpoch(ctx context.Context, p *pool, r record, epoch uint64) error {
	return p.do(ctx, func(b backends.Backend) error {
		s, ok := b.(backends.Stamper)
		if !ok {
			return nil
		}
		value, err := json.Marshal(stamp{recordSchema, m.copyOfCluster().ID, r.ID, epoch, m.cfg.Host})
		if err == nil {
			err = s.Stamp(ctx, r.ID, value)
		}
		if err != nil {
			return fmt.Errorf("write the epoch onto it: %w", err)
		}
		return nil
	})
}

// stamped reads who mounted a volume last, as its storage has it; a zero stamp if
// nobody did in this cluster.
func (m *Manager) stamped(ctx context.Context, p *pool, r record) (stamp, error) {
	var text []byte
	err := p.do(ctx, func(b backends.Backend) (err error) {
		if s, ok := b.(backends.Stamper); ok {
			text, err = s.Stamped(ctx, r.ID)
		}
		return err
	})
	if err != nil {
		return stamp{}, fmt.Errorf("read the epoch on it: %w", err)
	}
	var last stamp
	if text == nil {
		return last, nil
	}
	if err := unmarshal("the epoch on it", text, recordSchema, &last); err != nil {
		return stamp{}, err
	}
	if last.Cluster != m.copyOfCluster().ID || last.Volume != r.ID {
		return stamp{}, nil
	}
	return last, nil
}

// upToDate returns ErrUnavailable if the volume itself knows of a later owner
// than its record, and coordination.ErrConflict if that is because there has been one
// since o was read.
func (m *Manager) upToDate(ctx context.Context, p *pool, r record, o owner) error {
	last, err := m.stamped(ctx, p, r)
	if err != nil || last.Epoch <= o.Epoch {
		return err
	}
	now, err := m.loadOwner(ctx, r.ID) // which an owner writes before it stamps
	switch {
	case err == nil && now.version != o.version:
		err = coordination.ErrConflict
	case err == nil:
		err = unavailablef("host %q had it as owner %d, and the records know only of %d: they went back in time; when that host has let go of it, dvold volume release %s --from %s", last.Host, last.Epoch, o.Epoch, r.Name, last.Host)
	}
	return err
}

// catchUp has the records of a volume that nobody owns catch up with the epoch on
// it, once an operator vouches for the host that put it there.
func (m *Manager) catchUp(ctx context.Context, r record, p *pool, o owner, from string) error {
	none := fmt.Errorf("nobody owns it: %w", ErrInvalid)
	if p == nil || !m.ours(r) {
		return none
	}
	last, err := m.stamped(ctx, p, r)
	if err != nil {
		return err
	}
	if last.Host != from || last.Epoch <= o.Epoch {
		return none
	}
	o.Epoch = last.Epoch
	put, err := o.free().put()
	if err != nil {
		return err
	}
	_, err = m.commit(ctx, put)
	return unavailable(err)
}

// unstamp takes the epoch off a volume that is gone.
func unstamp(ctx context.Context, b backends.Backend, id string) error {
	if s, ok := b.(backends.Stamper); ok {
		return s.Stamp(ctx, id, nil)
	}
	return nil
}
