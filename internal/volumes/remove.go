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
	if checkName(name) != nil {
		return nil
	}
	return simply(ctx, m, name, func(ctx context.Context) error { return m.remove(ctx, name, engine) })
}

func (m *Manager) remove(ctx context.Context, name string, engine *host.Process) error {
	r, err := m.existing(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := m.vacate(ctx, name, engine); err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	m.step("remove: nobody uses it")
	r, ops, err := m.discard(ctx, r)
	if err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	if err := m.commit(ctx, ops...); err != nil {
		return fmt.Errorf("volume %q: write its removal: %w", name, err)
	}
	m.step("remove: record moved to the trash")
	m.log.Info("volume removed", "volume", name, "pool", r.Pool, "id", r.ID, "adopted", r.Adopted)
	if r.due(time.Now()) {
		m.poke()
	}
	return nil
}

// discard returns r as it will be, and the operations that make it so.
func (m *Manager) discard(ctx context.Context, r record) (record, []coordination.Op, error) {
	gone := r.deleted(volumeKey(r.Name))
	if r.Adopted {
		ops, err := m.unclaim(ctx, r)
		return r, append(ops, gone), err
	}
	now := time.Now().UTC()
	r.State, r.RemovedAt, r.RemovedBy = stateTrashed, &now, m.cfg.Host
	if !r.Retain {
		at := now.Add(m.trashTTL(r.Pool))
		r.PurgeAt = &at
	}
	trash, err := r.fresh(trashKey(r.ID))
	return r, []coordination.Op{gone, coordination.Put(trash)}, err
}

// trashTTL is how long a pool keeps what was removed. It is asked for at the
// removal, so that what was promised then stays true.
func (m *Manager) trashTTL(pool string) time.Duration {
	if p := m.pools[pool]; p != nil {
		return p.TrashTTL
	}
	return defaultTrashTTL // of a pool that only other hosts have
}

const defaultTrashTTL = 24 * time.Hour
