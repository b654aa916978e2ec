package volumes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dvol/dvold/coordination"
)

// Trashed describes a removed volume whose data is still there.
type Trashed struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Pool      string     `json:"pool"`
	Handle    string     `json:"handle"`
	RemovedAt time.Time  `json:"removed_at"`
	RemovedBy string     `json:"removed_by"`
	PurgeAt   *time.Time `json:"purge_at,omitempty"` // none: when an operator says so
	Purging   bool       `json:"purging"`            // too late to restore it
}

// Trash lists removed volumes, the last removed first.
func (m *Manager) Trash(ctx context.Context) ([]Trashed, error) {
	records, err := m.trash(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]Trashed, 0, len(records))
	for _, r := range records {
		all = append(all, r.trashed())
	}
	return all, nil
}

func (r record) trashed() Trashed {
	return Trashed{
		ID: r.ID, Name: r.Name, Pool: r.Pool, Handle: r.Handle,
		RemovedAt: deref(r.RemovedAt), RemovedBy: r.RemovedBy, PurgeAt: r.PurgeAt, Purging: r.State == statePurging,
	}
}

// trash reads the trash, the last removed first.
func (m *Manager) trash(ctx context.Context) ([]record, error) {
	if err := m.reach.err(); err != nil {
		return nil, fmt.Errorf("list the trash: %w", err)
	}
	stored, err := m.coord.List(ctx, "trash/")
	if err != nil {
		return nil, fmt.Errorf("list the trash: %w", unavailable(err))
	}
	var all []record
	for _, s := range stored {
		r, err := decode(s)
		if err != nil {
			m.log.Error("volume in the trash was left out of a list", "err", err)
			continue
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b record) int {
		if c := deref(b.RemovedAt).Compare(deref(a.RemovedAt)); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all, nil
}

// Restore brings a removed volume back, under its own name or another. which
// is its ID, or its name, for the last removed of that name. It returns
// ErrNotFound, ErrExists if the new name is taken, or ErrUnavailable, also if
// another host was quicker to restore or purge it.
func (m *Manager) Restore(ctx context.Context, which, as string) (Volume, error) {
	found, err := m.find(ctx, which)
	if err != nil {
		return Volume{}, err
	}
	if as == "" {
		as = found[0].Name
	}
	if err := CheckName(as); err != nil {
		return Volume{}, err
	}
	id := found[0].ID
	return call(ctx, m, trashKey(id), func(ctx context.Context) (Volume, func(context.Context), error) {
		v, err := m.restore(ctx, id, as)
		if err != nil {
			err = fmt.Errorf("restore %s as %q: %w", id, as, err)
		}
		return v, nil, err
	})
}

func (m *Manager) restore(ctx context.Context, id, as string) (Volume, error) {
	r, err := m.load(ctx, trashKey(id))
	if err != nil {
		return Volume{}, err
	}
	if r.State != stateTrashed {
		return Volume{}, unavailablef("its data is being deleted")
	}
	_, err = m.stat(ctx, r)
	if err != nil {
		return Volume{}, fmt.Errorf("look for its data: %w", err)
	}
	gone := r.deleted(trashKey(id))
	r.Name, r.State, r.RemovedAt, r.RemovedBy, r.PurgeAt = as, stateReady, nil, "", nil
	m.step("restore: data found")
	back, err := r.fresh(volumeKey(as))
	if err != nil {
		return Volume{}, err
	}
	_, err = m.commit(ctx, gone, coordination.Put(back), noIntent(as))
	if errors.Is(err, coordination.ErrConflict) {
		err = m.whyNotRestored(ctx, r, as)
	}
	if err != nil {
		return Volume{}, err
	}
	m.step("restore: record moved back")
	m.names.changed()
	m.redescribe(ctx, r)
	m.log.Info("volume restored", "volume", as, "pool", r.Pool, "id", id)
	return m.view(r), nil
}

// whyNotRestored tells the reasons apart for which r, as it was read from the
// trash, could not be moved from there.
func (m *Manager) whyNotRestored(ctx context.Context, r record, as string) error {
	stored, err := m.stored(ctx, trashKey(r.ID))
	switch {
	case err != nil:
		return err
	case stored.Version == 0:
		return fmt.Errorf("another host has restored or purged it just now: %w", ErrNotFound)
	case stored.Version != r.version:
		return unavailablef("another host is purging it, or has changed it just now: look, and try again")
	}
	return fmt.Errorf("give it another name, one %q exists or is being made: %w", as, ErrExists)
}

// Purge deletes a removed volume's data for good. which is its ID, or a name
// that is in the trash once. It returns ErrNotFound, ErrInvalid if there are
// several of that name, or ErrUnavailable; also when ctx ends while the data is
// being deleted, which the sweeper then goes on with.
func (m *Manager) Purge(ctx context.Context, which string) (Trashed, error) {
	found, err := m.find(ctx, which)
	if err != nil {
		return Trashed{}, err
	}
	if len(found) > 1 {
		return Trashed{}, fmt.Errorf("%d volumes named %q are in the trash, give the ID of one: %w", len(found), which, ErrInvalid)
	}
	key := trashKey(found[0].ID)
	purged, err := call(ctx, m, key, func(ctx context.Context) (Trashed, func(context.Context), error) {
		r, err := m.load(ctx, key)
		if err == nil {
			err = m.purge(ctx, r)
		}
		if err != nil {
			err = fmt.Errorf("purge %s: %w", found[0].ID, err)
		}
		return r.trashed(), nil, err
	})
	if err != nil && ctx.Err() != nil {
		m.later(&m.purgeable)
	}
	return purged, err
}

// purge may be repeated: the intent is in the record before the data is
// touched, and the record goes last. Two hosts don't purge one volume at once.
func (m *Manager) purge(ctx context.Context, r record) error {
	key := trashKey(r.ID)
	if !m.ours(r) {
		return m.disown(ctx, r)
	}
	session, err := m.session()
	if err != nil {
		return err
	}
	by := caller{m.cfg.Host, session.Incarnation()}
	if r.State != statePurging || r.PurgedBy == nil || *r.PurgedBy != by {
		if r.PurgedBy != nil && r.PurgedBy.Host != by.Host {
			alive, err := m.alive(ctx, *r.PurgedBy)
			if err == nil && alive {
				err = unavailablef("host %q is deleting its data", r.PurgedBy.Host)
			}
			if err != nil {
				return err
			}
		}
		r.State, r.PurgedBy = statePurging, &by
		stored, err := r.at(key)
		if err != nil {
			return err
		}
		written, err := m.commit(ctx, coordination.Put(stored))
		if errors.Is(err, coordination.ErrConflict) {
			return unavailablef("another host is purging or restoring it, or has done so")
		}
		if err != nil {
			return fmt.Errorf("write the intent: %w", err)
		}
		r.version = written[0].Version
		m.step("purge: intent written")
	}
	if err := m.erase(ctx, r); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("to delete its data takes longer, and goes on in the background: dvold trash ls shows it until it is gone: %w", err)
		}
		return err
	}
	m.step("purge: data removed")
	ops, err := m.ownerless(ctx, r)
	if err != nil {
		return err
	}
	if _, err := m.commit(ctx, append(ops, r.deleted(key))...); ignoreConflict(err) != nil {
		return fmt.Errorf("delete the record: %w", err)
	}
	m.step("purge: record removed")
	m.log.Info("volume purged", "volume", r.Name, "pool", r.Pool, "id", r.ID)
	return nil
}

// disown drops the record of a removed volume whose data only a host had that
// was forgotten.
func (m *Manager) disown(ctx context.Context, r record) error {
	if _, err := m.hostNamed(ctx, r.Home.Host); !errors.Is(err, ErrInvalid) {
		_, err = m.here(ctx, r)
		return err
	}
	ops, err := m.ownerless(ctx, r)
	if err == nil {
		_, err = m.commit(ctx, append(ops, r.deleted(trashKey(r.ID)))...)
	}
	return ignoreConflict(err)
}

// find returns the removed volume of that ID, or those of that name, the last
// removed first; at least one, or ErrNotFound.
func (m *Manager) find(ctx context.Context, which string) ([]record, error) {
	all, err := m.trash(ctx)
	if err != nil {
		return nil, err
	}
	var named []record
	for _, r := range all {
		if r.ID == which {
			return []record{r}, nil
		}
		if r.Name == which {
			named = append(named, r)
		}
	}
	if named == nil {
		return nil, fmt.Errorf("%.60q is not in the trash: %w", which, ErrNotFound)
	}
	return named, nil
}

// due says whether a removed volume is to be purged by now.
func (r record) due(now time.Time) bool {
	return r.State == statePurging || r.PurgeAt != nil && !r.PurgeAt.After(now)
}

// due lists what is to be purged by now, for each pool that this host has.
func (m *Manager) due(ctx context.Context, now time.Time) (map[string][]string, error) {
	all, err := m.trash(ctx)
	if err != nil {
		return nil, err
	}
	ids := make(map[string][]string)
	for _, r := range all {
		if m.pools[r.Pool] != nil && m.ours(r) && r.due(now) {
			ids[r.Pool] = append(ids[r.Pool], r.ID)
		}
	}
	return ids, nil
}
