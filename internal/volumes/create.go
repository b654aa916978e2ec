package volumes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/coordination"
)

// Create makes a volume. If it exists and none of the options says otherwise,
// there is nothing to do; the engine may send a Create for what exists, and
// many hosts may create one name at once. It returns ErrInvalid, ErrMismatch
// or ErrUnavailable. A volume appears whole or not at all.
func (m *Manager) Create(ctx context.Context, name string, options map[string]string) error {
	if err := checkName(name); err != nil {
		return err
	}
	s, err := parseOptions(options)
	if err != nil {
		return fmt.Errorf("volume %q: %w", name, err)
	}
	return simply(ctx, m, name, func(ctx context.Context) error {
		if err := m.create(ctx, name, options, s); err != nil {
			return fmt.Errorf("volume %q: %w", name, err)
		}
		return nil
	})
}

func (m *Manager) create(ctx context.Context, name string, options map[string]string, s settings) error {
	err := m.makeWay(ctx, name)
	if errors.Is(err, ErrExists) {
		return m.agree(ctx, name, options)
	}
	if err != nil {
		return err
	}
	return m.build(ctx, name, options, s, nil)
}

// makeWay clears what an interrupted call left of that name, or returns
// ErrExists.
func (m *Manager) makeWay(ctx context.Context, name string) error {
	old, err := m.load(ctx, volumeKey(name))
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if old.State != stateCreating {
		return ErrExists
	}
	// Left by a call that was cut short, as the volume's lock is ours.
	if err := m.abandon(ctx, old); err != nil {
		return fmt.Errorf("clear what an interrupted call left: %w", err)
	}
	return nil
}

// build makes a volume, and has fill put data into it before anyone sees it,
// unless it is nil. If it fails, or the caller left, it undoes itself.
func (m *Manager) build(ctx context.Context, name string, options map[string]string, s settings, fill filler) error {
	r, v, err := m.plan(ctx, name, options, s)
	if err != nil {
		return err
	}
	p, err := m.pool(r.Pool)
	if err != nil {
		return err
	}
	r, err = m.intend(ctx, r)
	if err != nil {
		return err
	}
	m.step("create: intent written")
	_, _, err = guard(ctx, m, name, func(ctx context.Context) (struct{}, func(context.Context), error) {
		return struct{}{}, nil, m.provide(ctx, p, r, v, fill)
	})
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		if undo := m.abandon(ctx, r); undo != nil {
			m.log.Warn("create was not undone yet", "volume", name, "pool", r.Pool, "err", undo)
			m.unfinished.Store(true)
			m.poke()
		}
		return fmt.Errorf("create in pool %q: %w", r.Pool, err)
	}
	m.step("create: record ready")
	m.log.Info("volume created", "volume", name, "pool", r.Pool, "id", r.ID)
	return nil
}

// provide does what the intent says.
func (m *Manager) provide(ctx context.Context, p *pool, r record, v backends.Volume, fill filler) error {
	if err := p.do(ctx, func(b backends.Backend) error { return b.Create(ctx, v) }); err != nil {
		return err
	}
	m.step("create: storage made")
	if fill != nil {
		if err := m.fill(ctx, p, r, fill); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err // the caller left: it must not find a volume it was told had failed
	}
	r.State = stateReady
	return m.put(ctx, r)
}

// agree returns ErrMismatch if options ask for another volume than there is.
func (m *Manager) agree(ctx context.Context, name string, options map[string]string) error {
	r, err := m.load(ctx, volumeKey(name))
	if err != nil {
		return err
	}
	difference, err := disagreement(options, r)
	if err != nil {
		return err
	}
	if difference != "" {
		return fmt.Errorf("%w: %s; leave the option out, or choose another name", ErrMismatch, difference)
	}
	return nil
}

// plan has the backend say what it would make.
func (m *Manager) plan(ctx context.Context, name string, options map[string]string, s settings) (record, backends.Volume, error) {
	if s.pool == "" {
		s.pool = m.cfg.DefaultPool
	}
	p, err := m.pool(s.pool)
	if err != nil {
		return record{}, backends.Volume{}, err
	}
	request := backends.Request{
		ID: newID(name), Size: s.size, UID: s.uid, GID: s.gid, Mode: s.mode, Adopt: s.adopt, Options: s.own,
	}
	var v backends.Volume
	err = p.do(ctx, func(b backends.Backend) error {
		v, err = b.Plan(ctx, request)
		return err
	})
	if err != nil {
		return record{}, backends.Volume{}, fmt.Errorf("pool %q: %w", s.pool, err)
	}
	return record{
		ID:        request.ID,
		Name:      name,
		Pool:      s.pool,
		Handle:    v.Handle,
		Adopted:   v.Adopted,
		Access:    s.access,
		Size:      v.Size,
		Retain:    s.retain,
		Options:   options,
		State:     stateCreating,
		CreatedAt: time.Now().UTC(),
		CreatedBy: m.cfg.Host,
	}, v, nil
}

// intend writes the intent to create r down, and for adopted data the claim to
// it, so that it never belongs to two volumes.
func (m *Manager) intend(ctx context.Context, r record) (record, error) {
	stored, err := r.fresh(volumeKey(r.Name))
	if err != nil {
		return r, err
	}
	ops := []coordination.Op{coordination.Put(stored)}
	if r.Adopted {
		claim, err := m.claim(ctx, r)
		if err != nil {
			return r, err
		}
		ops = append(ops, claim...)
	}
	written, err := m.session.Commit(ctx, ops...)
	if errors.Is(err, coordination.ErrConflict) {
		return r, fmt.Errorf("another host is creating it: try again: %w", ErrUnavailable)
	}
	if err != nil {
		return r, fmt.Errorf("write the intent: %w", unavailable(err))
	}
	r.version = written[0].Version
	return r, nil
}

// put writes r over the version it was read at.
func (m *Manager) put(ctx context.Context, r record) error {
	stored, err := r.at(volumeKey(r.Name))
	if err != nil {
		return err
	}
	if _, err := m.session.Commit(ctx, coordination.Put(stored)); err != nil {
		return fmt.Errorf("write the record: %w", unavailable(err))
	}
	return nil
}

// abandon undoes a create that did not get ready: first the storage, then the
// record that points to it. Nobody has ever seen the volume.
func (m *Manager) abandon(ctx context.Context, r record) error {
	current, err := m.load(ctx, volumeKey(r.Name))
	if errors.Is(err, ErrNotFound) || err == nil && (current.ID != r.ID || current.State != stateCreating) {
		return nil // gone, or ready after all: the answer to the last write was lost
	}
	if err != nil {
		return err
	}
	if e, ok := m.entry(r.Name); ok && e.ID == r.ID { // it was being filled
		if err := m.detach(ctx, e); err != nil {
			return err
		}
	}
	if err := m.erase(ctx, current); err != nil {
		return err
	}
	m.step("undo create: storage removed")
	ops, err := m.unclaim(ctx, current)
	if err != nil {
		return err
	}
	if err := m.commit(ctx, append(ops, current.deleted(volumeKey(current.Name)))...); err != nil {
		return err
	}
	m.step("undo create: record removed")
	return nil
}

// erase deletes a volume's data for good, if it is dvold's to delete.
func (m *Manager) erase(ctx context.Context, r record) error {
	if r.Adopted {
		return nil
	}
	p, err := m.pool(r.Pool)
	if err != nil {
		return err
	}
	return p.do(ctx, func(b backends.Backend) error { return b.Remove(ctx, r.Handle) })
}

// commit writes without need of the new versions.
func (m *Manager) commit(ctx context.Context, ops ...coordination.Op) error {
	_, err := m.session.Commit(ctx, ops...)
	return unavailable(err)
}
