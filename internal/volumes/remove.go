package volumes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/internal/host"
)

// Remove takes a volume away from users: its record moves to the trash, its
// data stays where it is until the trash is purged. Adopted data is let go of,
// and never deleted. engine is the one that asks, nil for an operator. It
// returns ErrInUse, naming the user, or ErrUnavailable. A volume that doesn't
// exist is removed already.
func (m *Manager) Remove(ctx context.Context, name string, engine *host.Process) error {
	if CheckName(name) != nil {
		return nil
	}
	return simply(ctx, m, name, func(ctx context.Context) error { return m.remove(ctx, name, engine) })
}

func (m *Manager) remove(ctx context.Context, name string, engine *host.Process) error {
	r, err := m.look(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err == nil {
		err = m.vacate(ctx, name, engine)
	}
	if err == nil {
		m.step("remove: nobody here uses it")
		err = m.takeAway(ctx, r)
	}
	if errors.Is(err, ErrNotFound) {
		return nil // another host did it meanwhile
	}
	if err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	return nil
}

// takeAway moves a volume that nobody on this host uses to the trash.
func (m *Manager) takeAway(ctx context.Context, r record) error {
	var after record
	r, _, err := m.alone(ctx, removing, "remove", r, func(r record) (ops []coordination.Op, err error) {
		m.step("remove: nobody elsewhere uses it")
		after, ops, err = m.discard(ctx, r)
		return ops, err
	})
	if err != nil {
		return err
	}
	m.known.gone(r.Name)
	m.names.changed()
	m.step("remove: record moved to the trash")
	if r.Adopted {
		m.undescribe(ctx, r)
	} else {
		m.redescribe(ctx, after)
	}
	m.step("remove: described")
	m.log.Info("volume removed", "volume", r.Name, "pool", r.Pool, "id", r.ID, "adopted", r.Adopted)
	if after.due(time.Now()) {
		m.later(&m.purgeable)
	}
	return nil
}

// alone does what change returns to a volume that no other host holds, or
// returns ErrInUse. There is no asking "does anybody hold it" within a
// transaction, so there are two: from the first on nobody can start to hold it,
// and the second comes when nobody does. It returns the record that change was
// given, and what was written. The steps are named after what.
func (m *Manager) alone(ctx context.Context, kind intentKind, what string, r record, change func(record) ([]coordination.Op, error)) (record, []coordination.Record, error) {
	r, in, err := m.reserve(ctx, kind, r)
	if err != nil {
		return r, nil, err
	}
	m.step(what + ": intent written")
	var ops []coordination.Op
	if err = m.unheld(ctx, r.Name); err == nil {
		ops, err = change(r)
	}
	var written []coordination.Record
	if err == nil {
		written, err = m.finish(ctx, in, ops...)
	}
	if err != nil {
		m.giveUp(ctx, in)
	}
	return r, written, err
}

// reserve announces what is to become of a volume, so that nobody can change
// it, or start to hold it, meanwhile. It returns the record as it is by then.
func (m *Manager) reserve(ctx context.Context, kind intentKind, r record) (record, intent, error) {
	for {
		check := coordination.Check(coordination.Record{Key: volumeKey(r.Name), Version: r.version})
		in, err := m.announce(ctx, kind, r.Name, nil, check)
		if err == nil {
			return r, in, nil
		}
		if !errors.Is(err, coordination.ErrConflict) {
			return r, in, fmt.Errorf("write the intent: %w", err)
		}
		if err := m.clear(ctx, r.Name); err != nil {
			return r, in, err
		}
		if r, err = m.existing(ctx, r.Name); err != nil {
			return r, in, err
		}
	}
}

// giveUp takes an intent back that has led to nothing. What fails is taken back
// by the sweeper.
func (m *Manager) giveUp(ctx context.Context, in intent) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := m.takeBack(ctx, in); err != nil {
		m.log.Warn("intent was not taken back yet", "volume", in.Name, "intent", in.Kind, "err", err)
		m.later(&m.unfinished)
	}
}

// discard returns r as it will be, and the operations that make it so.
func (m *Manager) discard(ctx context.Context, r record) (record, []coordination.Op, error) {
	gone := r.deleted(volumeKey(r.Name))
	if r.Adopted {
		claim, err := m.unclaim(ctx, r)
		if err != nil {
			return r, nil, err
		}
		ops, err := m.ownerless(ctx, r) // IDs never come back
		return r, append(append(ops, claim...), gone), err
	}
	now := time.Now().UTC()
	r.State, r.RemovedAt, r.RemovedBy = stateTrashed, &now, m.cfg.Host
	if !r.Retain {
		ttl, err := m.trashTTL(ctx, r)
		if err != nil {
			return r, nil, err
		}
		at := now.Add(ttl)
		r.PurgeAt = &at
	}
	trash, err := r.fresh(trashKey(r.ID))
	return r, []coordination.Op{gone, coordination.Put(trash)}, err
}
