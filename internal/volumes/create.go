package volumes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/coordination"
)

// Create makes a volume. If it exists and none of the options says otherwise,
// there is nothing to do; the engine may send a Create for what exists, and
// many hosts may create one name at once. It returns ErrInvalid, ErrMismatch
// or ErrUnavailable. A volume appears whole or not at all.
func (m *Manager) Create(ctx context.Context, name string, options map[string]string) error {
	if err := CheckName(name); err != nil {
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
	err := m.make(ctx, name, options, s, nil)
	if errors.Is(err, ErrExists) {
		return m.agree(ctx, name, options)
	}
	return err
}

// make makes a volume, and has fill put data into it before anyone sees it,
// unless it is nil. It returns ErrExists if there is one of that name, perhaps
// made just now by another host. If it fails, or the caller left, it undoes
// itself.
func (m *Manager) make(ctx context.Context, name string, options map[string]string, s settings, fill filler) error {
	for {
		_, err := m.look(ctx, name)
		if err == nil {
			return ErrExists
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		err = m.build(ctx, name, options, s, fill)
		if !errors.Is(err, errOvertaken) {
			return err
		}
		if err := m.clear(ctx, name); err != nil { // seldom is anything in the way
			return err
		}
	}
}

// errOvertaken means that another host, or another adopter, was quicker.
var errOvertaken = errors.New("another host was quicker")

func (m *Manager) build(ctx context.Context, name string, options map[string]string, s settings, fill filler) error {
	r, v, err := m.plan(ctx, name, options, s)
	if err != nil {
		return err
	}
	p, err := m.pool(ctx, r.Pool)
	if err != nil {
		return err
	}
	in, err := m.intend(ctx, r)
	if err != nil {
		return err
	}
	m.step("create: intent written")
	_, _, err = shield(ctx, m, name, func(ctx context.Context) (struct{}, func(context.Context), error) {
		return struct{}{}, nil, m.provide(ctx, p, in, v, fill)
	})
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		if undo := m.abandon(ctx, in); undo != nil {
			m.log.Warn("create was not undone yet", "volume", name, "pool", r.Pool, "err", undo)
			m.later(&m.unfinished)
		}
		return fmt.Errorf("create in pool %q: %w", r.Pool, err)
	}
	m.step("create: record ready")
	m.log.Info("volume created", "volume", name, "pool", r.Pool, "id", r.ID)
	return nil
}

// provide does what the intent says.
func (m *Manager) provide(ctx context.Context, p *pool, in intent, v backends.Volume, fill filler) error {
	r := *in.Record
	if err := p.do(ctx, func(b backends.Backend) error { return b.Create(ctx, v) }); err != nil {
		return err
	}
	m.step("create: storage made")
	if fill != nil {
		if err := m.fill(ctx, p, r, fill); err != nil {
			return err
		}
	}
	r.State = stateReady
	if err := m.describe(ctx, r); err != nil {
		return err
	}
	m.step("create: described")
	if err := ctx.Err(); err != nil {
		return err // the caller left: it must not find a volume it was told had failed
	}
	stored, err := r.fresh(volumeKey(r.Name))
	if err != nil {
		return err
	}
	written, err := m.finish(ctx, in, coordination.Put(stored))
	if err != nil {
		return fmt.Errorf("write the record: %w", err)
	}
	r.version, r.stored = written[0].Version, stored.Value
	m.remind(r)
	m.names.changed()
	return nil
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
	p, err := m.pool(ctx, s.pool)
	if err != nil {
		return record{}, backends.Volume{}, err
	}
	if s.access, err = p.access(s); err != nil {
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
	if s.access == AccessReadOnly && !v.Adopted {
		return record{}, backends.Volume{}, fmt.Errorf("option access=readonly: a new volume is empty: make it without, fill it, then dvold volume set --access readonly: %w", ErrInvalid)
	}
	return record{
		ID:        request.ID,
		Name:      name,
		Pool:      s.pool,
		Handle:    v.Handle,
		Home:      m.homeOf(p),
		Adopted:   v.Adopted,
		Access:    s.access,
		Size:      v.Size,
		Retain:    s.retain,
		Options:   options,
		Schema:    recordSchema,
		CreatedAt: time.Now().UTC(),
		CreatedBy: m.cfg.Host,
	}, v, nil
}

// intend writes the intent to create r down, and for adopted data the claim to
// it, so that it never belongs to two volumes. It returns errOvertaken if
// another host came first.
func (m *Manager) intend(ctx context.Context, r record) (intent, error) {
	ops := []coordination.Op{coordination.Check(coordination.Record{Key: volumeKey(r.Name)})}
	if r.Adopted {
		claim, err := m.claim(ctx, r)
		if err != nil {
			return intent{}, err
		}
		ops = append(ops, claim...)
	}
	in, err := m.announce(ctx, creating, r.Name, &r, ops...)
	if errors.Is(err, coordination.ErrConflict) {
		return intent{}, errOvertaken
	}
	if err != nil {
		return intent{}, fmt.Errorf("write the intent: %w", err)
	}
	return in, nil
}

// abandon undoes a create that did not get ready: first the storage, then the
// intent that points to it. Nobody has ever seen the volume. That the intent is
// there proves little: the commit that has it come true may be under way, though
// its maker gave up on the answer. So the intent is changed first, after which
// that commit can't happen any more.
func (m *Manager) abandon(ctx context.Context, in intent) error {
	current, err := m.loadIntent(ctx, in.Name)
	if errors.Is(err, ErrNotFound) || err == nil && (current.Kind != creating || current.Record.ID != in.Record.ID) {
		return m.obsolete(ctx, in) // ready after all: the answer to the last write was lost
	}
	if err != nil {
		return err
	}
	r := *in.Record
	if !m.ours(r) {
		return unavailablef("its data is on host %q alone: start dvold there, or dvold host forget %s", r.Home.Host, r.Home.Host)
	}
	if !current.Undoing {
		current, err = m.condemn(ctx, current)
		if errors.Is(err, coordination.ErrConflict) {
			return m.abandon(ctx, in) // ready now, or another undoes it: no third can come
		}
		if err != nil {
			return err
		}
		m.step("undo create: intent changed")
	}
	if e, ok := m.entry(r.Name); ok && e.ID == r.ID { // it was being filled
		if err := m.detach(ctx, e); err != nil {
			return err
		}
	}
	if err := m.erase(ctx, r); err != nil {
		return err
	}
	m.step("undo create: storage removed")
	ops, err := m.unclaim(ctx, r)
	if err != nil {
		return err
	}
	if _, err := m.commit(ctx, append(ops, current.done())...); err != nil {
		now, loadErr := m.loadIntent(ctx, in.Name)
		if errors.Is(loadErr, ErrNotFound) || loadErr == nil && now.version != current.version {
			return nil // another host came first
		}
		return err
	}
	m.step("undo create: record removed")
	return nil
}

// obsolete removes what an intent that is gone may have left in the storage,
// unless it came true.
func (m *Manager) obsolete(ctx context.Context, in intent) error {
	came, err := m.cameTrue(ctx, *in.Record)
	if err != nil || came || !m.ours(*in.Record) {
		return err
	}
	return m.erase(ctx, *in.Record)
}

// cameTrue tells whether there is a volume of r's ID, by its first name or
// another, or in the trash. As it may be moved meanwhile the trash is looked
// through twice.
func (m *Manager) cameTrue(ctx context.Context, r record) (bool, error) {
	_, err := m.withID(ctx, r.Name, r.ID)
	if !errors.Is(err, ErrNotFound) {
		return err == nil, err
	}
	all, err := m.coord.List(ctx, "volumes/") // it may have been restored under another name
	if err != nil {
		return false, unavailable(err)
	}
	id := []byte(strconv.Quote(r.ID))
	if slices.ContainsFunc(all, func(s coordination.Record) bool { return bytes.Contains(s.Value, id) }) {
		return true, nil
	}
	stored, err := m.stored(ctx, trashKey(r.ID))
	return stored.Version != 0, err
}

// erase deletes a volume's data for good, if it is dvold's to delete, and its
// description.
func (m *Manager) erase(ctx context.Context, r record) error {
	p, err := m.pool(ctx, r.Pool)
	if err != nil {
		return err
	}
	return p.do(ctx, func(b backends.Backend) error {
		if !r.Adopted {
			if err := b.Remove(ctx, r.Handle); err != nil {
				return err
			}
		}
		if err := unstamp(ctx, b, r.ID); err != nil {
			return err
		}
		return b.Describe(ctx, r.ID, nil)
	})
}
