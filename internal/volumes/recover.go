package volumes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/internal/host"
)

// recover brings the journal into line with the kernel after a restart. It
// reads the mount table and changes the journal only; what is to be unmounted
// is left to the sweeper, because storage may hang.
func (m *Manager) recover(boot string) error {
	entries, err := m.journal.entries()
	if err != nil {
		return err
	}
	last, err := m.journal.boot()
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	mounts, err := host.MountsBelow(m.mountDir())
	if err != nil {
		return err
	}
	at := make(map[string]bool)
	for _, info := range mounts {
		at[info.Mountpoint] = true
	}
	for i, e := range entries {
		if last != boot {
			e = e.keep(func(use) bool { return false }) // no container outlives its kernel
			e.Mount, e.Identity, e.Lost = nil, nil, ""
		}
		target := m.target(e.ID)
		e.mounted = at[target]
		delete(at, target)
		entries[i] = e
		m.mounts[e.Name] = e
		m.log.Info("volume recovered", "volume", e.Name, "pool", e.Pool, "mounted", e.mounted, "uses", len(e.Uses))
	}
	for target := range at {
		if filepath.Dir(target) == m.mountDir() {
			m.log.Warn("mount is not in the journal and was left alone", "target", target)
		}
	}
	for _, o := range m.guard.Orders() {
		if at[m.target(o.ID)] && (o.Now || o.Deadline != coordination.Never) {
			continue // the journal was lost, and what this host promised about the volume was not: nobody renews it
		}
		if !slices.ContainsFunc(entries, func(e entry) bool { return e.ID == o.ID }) {
			if err := m.guard.Remove(o.ID); err != nil {
				return err
			}
		}
	}
	if err := m.tidy(); err != nil {
		return err
	}
	m.step("start: mountpoints tidied")
	if err := m.journal.restart(boot, entries); err != nil {
		return err
	}
	m.step("start: journal corrected")
	return nil
}

// tidy removes the mountpoints that a reboot left, with the journal gone.
func (m *Manager) tidy() error {
	points, err := os.ReadDir(m.mountDir())
	if err != nil {
		return err
	}
	known := make(map[string]bool)
	for _, e := range m.mounts {
		known[e.ID] = true
	}
	for _, p := range points {
		if known[p.Name()] {
			continue
		}
		if err := host.RemoveMountpoint(m.target(p.Name())); err != nil {
			m.log.Warn("mountpoint is not in the journal and was left alone", "err", err)
		}
	}
	return nil
}

// resume takes back the intents that this host's calls, or its last run, left.
func (m *Manager) resume(ctx context.Context) error {
	stored, err := m.coord.List(ctx, "intents/")
	if err != nil {
		return unavailable(err)
	}
	var errs []error
	for _, s := range stored {
		in, err := decodeIntent(s)
		if err != nil || in.By.Host != m.cfg.Host {
			continue
		}
		if err := m.resumeOne(ctx, in); err != nil {
			errs = append(errs, fmt.Errorf("volume %q: %w", in.Name, err))
		}
	}
	return errors.Join(errs...)
}

// resumeOne takes an intent back, unless it has come true, or a call is under
// way. Calls for the volume wait meanwhile, so a coordinator that is silent by
// now is not waited for.
func (m *Manager) resumeOne(ctx context.Context, in intent) error {
	release, ok := m.locks.soon(ctx, in.Name)
	if !ok {
		m.unfinished.Store(true) // look again
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	_, err := callLocked(ctx, m, in.Name, release, func(ctx context.Context) (struct{}, func(context.Context), error) {
		current, err := ask(ctx, m, func(ctx context.Context) (intent, error) { return m.loadIntent(ctx, in.Name) })
		switch {
		case err == nil && current.version == in.version:
			err = m.takeBack(ctx, in)
		case err == nil:
			m.unfinished.Store(true) // it has changed since it was listed: look again
		}
		if errors.Is(err, ErrNotFound) {
			err = nil
		}
		return struct{}{}, nil, err
	})
	return err
}

// reconcile has the records say what this host has and holds: after a start, a
// new session, or a time without the coordinator.
func (m *Manager) reconcile(ctx context.Context) error {
	if err := m.showPools(ctx); err != nil {
		return err
	}
	stored, err := m.coord.List(ctx, holdingKey(m.cfg.Host, ""))
	if err != nil {
		return unavailable(err)
	}
	written := make(map[string]bool)
	for _, s := range stored {
		written[path.Base(s.Key)] = true
	}
	m.mu.RLock()
	held := maps.Clone(m.mounts)
	m.mu.RUnlock()
	for name := range held {
		written[name] = true
	}
	return m.reconcileNames(ctx, slices.Collect(maps.Keys(written)))
}

// reconcileNames is reconcile for some volumes.
func (m *Manager) reconcileNames(ctx context.Context, names []string) error {
	var errs []error
	for _, name := range names {
		release, ok := m.locks.soon(ctx, name)
		if !ok {
			m.unsettled.Store(true) // a call is under way: look again
			continue
		}
		_, err := ask(ctx, m, func(ctx context.Context) (struct{}, error) { // for calls for the volume wait
			return struct{}{}, m.reconcileOne(ctx, name)
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("volume %q: %w", name, err))
		}
		release()
	}
	return errors.Join(errs...)
}

// reconcileOne has the records say whether this host holds a volume. The caller
// holds the volume's lock.
func (m *Manager) reconcileOne(ctx context.Context, name string) error {
	e, known := m.entry(name)
	mounted := known && (e.mounted || len(e.Uses) > 0)
	if mounted && e.Exclusive {
		session, err := m.session()
		if err == nil {
			err = m.reclaimOne(ctx, session, e)
		}
		return err
	}
	if known && !mounted && m.connects(e) {
		return nil // it may be connected still: giveBack lets go of it after that
	}
	if !mounted {
		return m.unhold(ctx, name)
	}
	r, err := m.existing(ctx, name)
	if errors.Is(err, ErrNotFound) || err == nil && r.ID != e.ID {
		m.log.Error("a volume that is mounted here was removed by another host, which could not know: stop its containers; dvold trash ls may still have it", "volume", name, "id", e.ID)
		return nil
	}
	if err == nil {
		_, err = m.hold(ctx, r)
	}
	return err
}

// unhold has the records say that this host does not hold a volume, nor own it. They go
// on saying so of another machine that had its name.
func (m *Manager) unhold(ctx context.Context, name string) error {
	m.mu.Lock()
	delete(m.holdings, name)
	delete(m.ownerships, name)
	m.mu.Unlock()
	held, err := m.holderOf(ctx, m.cfg.Host, name)
	if err != nil || !held.by(m.me) {
		return err
	}
	if held.Access == AccessExclusive {
		return m.renounce(ctx, name, held.Volume, owner.abandoned)
	}
	h, err := m.holdingOf(ctx, m.cfg.Host, name)
	if err != nil || h.holder == 0 && h.reverse == 0 {
		return err
	}
	_, err = m.commit(ctx, h.delete(m.cfg.Host, name)...)
	return err
}
