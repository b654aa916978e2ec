package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

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

// resume undoes the creates that this host's calls, or its last run, left half
// done.
func (m *Manager) resume(ctx context.Context) error {
	stored, err := m.coord.List(ctx, "volumes/")
	if err != nil {
		return unavailable(err)
	}
	var errs []error
	for _, s := range stored {
		r, err := decode(s)
		if err != nil || r.State != stateCreating || r.CreatedBy != m.cfg.Host {
			continue
		}
		release, ok := m.locks.try(r.Name)
		if !ok {
			m.unfinished.Store(true) // a create is under way: look again
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
		_, err = callLocked(ctx, m, r.Name, release, func(ctx context.Context) (struct{}, func(context.Context), error) {
			return struct{}{}, nil, m.abandon(ctx, r)
		})
		cancel()
		if err != nil {
			errs = append(errs, fmt.Errorf("volume %q in pool %q: %w", r.Name, r.Pool, err))
		}
	}
	return errors.Join(errs...)
}
