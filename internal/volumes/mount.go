package volumes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/guard"
	"github.com/dvol/dvold/internal/host"
)

// Mount mounts a volume, if it isn't yet, and counts a use of it under the
// mount ID, by engine. It returns the mountpoint once the use is on the disk.
// If ctx ends first, the use is undone. It returns ErrInvalid, ErrNotFound or
// ErrUnavailable.
func (m *Manager) Mount(ctx context.Context, name, id string, engine host.Process) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	if err := checkMountID(id); err != nil {
		return "", fmt.Errorf("volume %q: %w", name, err)
	}
	return call(ctx, m, name, func(ctx context.Context) (string, func(context.Context), error) {
		target, err := m.mount(ctx, name, id, engine)
		undo := func(ctx context.Context) { m.unmount(ctx, name, id) }
		return target, undo, err
	})
}

func (m *Manager) mount(ctx context.Context, name, id string, engine host.Process) (string, error) {
	target, err := m.mountFor(ctx, name, id, engine)
	if err != nil {
		return "", fmt.Errorf("volume %q: %w", name, err)
	}
	return target, nil
}

func (m *Manager) mountFor(ctx context.Context, name, id string, engine host.Process) (string, error) {
	r, seen, err := m.recall(ctx, name)
	if err != nil {
		return "", err
	}
	p, err := m.here(ctx, r)
	if err != nil {
		return "", err
	}
	if err := m.expel(ctx, name, r.ID); err != nil {
		return "", err
	}
	e, known := m.entry(name)
	if known && e.Lost != "" {
		return "", unavailablef("this host is being cut off from it: %s", e.Lost)
	}
	if !known {
		if err := m.unordered(r); err != nil {
			return "", err
		}
	}
	if exclusive := r.Access == AccessExclusive; !known || len(e.Uses) == 0 && e.Exclusive != exclusive {
		e = entry{Name: name, ID: r.ID, Pool: r.Pool, Handle: r.Handle, Exclusive: exclusive}
		if err := m.record(e); err != nil { // the intent
			return "", err
		}
		m.step("mount: intent written")
	}
	if r, err = m.take(ctx, p, r, seen, &e); err == nil && r.ID != e.ID {
		err = unavailablef("it was replaced by another of that name just now: try again")
	}
	if err == nil {
		m.step("mount: held")
		err = m.attach(ctx, p, e, r.Access)
	}
	if err == nil {
		e.mounted = true
		m.remember(e)
		if e.Exclusive {
			e, err = m.confirm(e)
		}
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		m.retreat(ctx, e)
		return "", fmt.Errorf("mount from pool %q: %w", r.Pool, err)
	}
	err = m.record(e.add(id, engine, time.Now()))
	m.step("mount: use written")
	if now, _ := m.entry(name); err == nil && now.Lost != "" {
		err = errors.Join(unavailablef("this host is being cut off from it: %s", now.Lost), m.record(e))
	}
	if err != nil {
		m.retreat(ctx, e)
		return "", err
	}
	if !known && seen.IsZero() {
		m.remind(r)
	}
	return m.target(e.ID), nil
}

// unordered returns ErrUnavailable if the guard has an order for a volume that the journal
// does not know, and has not verified that it is cut off: the journal was lost. That order
// must stand, for others may rely on it.
func (m *Manager) unordered(r record) error {
	if !slices.ContainsFunc(m.guard.Orders(), func(o guard.Order) bool { return o.ID == r.ID }) {
		return nil
	}
	mounted, err := host.IsMountpoint(m.target(r.ID))
	if outcome, ok := m.guard.Outcome(r.ID); err == nil && (mounted || !ok || outcome.Verified == 0) {
		err = unavailablef("a dvold that lost its own state, %s, has mounted it here, and it is cut off from this host when its lease is over: stop its containers, then reboot, or dvold volume release %s --from %s", m.cfg.RunDir, r.Name, m.cfg.Host)
	}
	if err != nil {
		return err
	}
	return m.guard.Remove(r.ID)
}

// take has the records say that this host may mount the volume.
func (m *Manager) take(ctx context.Context, p *pool, r record, seen time.Time, e *entry) (record, error) {
	switch {
	case !e.Exclusive:
		return m.holdOrKnow(ctx, r, seen, len(e.Uses) > 0)
	case e.mounted && len(e.Uses) > 0:
		return r, m.stillMounted(*e) // whatever becomes of it becomes of all its uses
	case !seen.IsZero():
		return r, unavailablef("an exclusive volume is not mounted without the coordinator: %w", cmp.Or(m.reach.err(), ErrUnavailable))
	}
	r, err := m.own(ctx, r, p)
	if err != nil {
		return r, err
	}
	o, _ := m.owned(r.Name)
	e.Epoch = o.epoch
	if err := m.stampEpoch(ctx, p, r, o.epoch); err != nil {
		return r, err
	}
	m.step("mount: stamped")
	if err := m.order(*e); err != nil { // before there is anything to cut
		return r, err
	}
	m.step("mount: guard told")
	return r, m.connect(ctx, p, e)
}

// confirm makes sure that this host may still have an exclusive volume mounted
// that it has mounted just now, and tells the guard what that looks like.
func (m *Manager) confirm(e entry) (entry, error) {
	first := e.Mount == nil
	if first {
		mount, err := cut.Volume{ID: e.ID, Mountpoint: m.target(e.ID), Sole: m.sole(e)}.Identified()
		if err != nil {
			return e, err
		}
		mount.Servers = m.serversOf(e)
		e.Mount = &mount
		m.remember(e)
		if err := m.order(e); err != nil {
			return e, err
		}
	}
	if now, _ := m.entry(e.Name); now.Lost != "" {
		return now, unavailablef("this host is being cut off from it: %s", now.Lost)
	}
	if !first && len(e.Uses) > 0 {
		return e, m.mayServe(e.Name)
	}
	return e, m.mayMount(e.Name)
}

// stillMounted returns ErrUnavailable, and gives an exclusive volume up, unless it is
// mounted as the journal has it: the guard may have unmounted it, which must not be undone.
func (m *Manager) stillMounted(e entry) error {
	mounted, err := host.IsMountpoint(m.target(e.ID))
	if err != nil || mounted {
		return err
	}
	return cmp.Or(m.lose(e, behindBack), unavailablef("this host is being cut off from it: %s", behindBack))
}

// behindBack is why a volume is lost that somebody else has unmounted: the guard, perhaps,
// which has more to do then.
const behindBack = "it was unmounted behind dvold's back"

// holdOrKnow has the records say that this host holds the volume. While the
// coordinator is away a volume that is mounted here already, or that the host
// asked after not long ago (seen, if it isn't zero), can be mounted all the
// same, for all may write to it at once; the records are told later.
func (m *Manager) holdOrKnow(ctx context.Context, r record, seen time.Time, mounted bool) (record, error) {
	var err error
	if seen.IsZero() {
		var held record
		held, err = m.hold(ctx, r)
		if err == nil || m.reach.err() == nil && !errors.Is(err, coordination.ErrSessionLost) {
			return held, err
		}
		seen = time.Now() // it went away just now, or this host did
	} else {
		err = m.reach.err()
	}
	if !mounted && time.Since(seen) > knownFor {
		return r, fmt.Errorf("it was asked after last on %s, too long ago to be mounted without the coordinator: %w", seen.Local().Format(time.DateTime), cmp.Or(err, ErrUnavailable))
	}
	m.later(&m.unsettled)
	m.log.Warn("volume is mounted without the coordinator's knowledge", "volume", r.Name, "pool", r.Pool)
	return r, nil
}

// expel makes sure that no earlier volume of that name is mounted.
func (m *Manager) expel(ctx context.Context, name, id string) error {
	e, ok := m.entry(name)
	if !ok || e.ID == id {
		return nil
	}
	if err := m.detach(ctx, e); err != nil {
		return fmt.Errorf("an earlier volume of that name is still mounted: %w", err)
	}
	return nil
}

// attach makes the volume's files appear at its mountpoint. Only the kernel is
// believed: a bare directory must never reach Docker.
func (m *Manager) attach(ctx context.Context, p *pool, e entry, access Access) error {
	target := m.target(e.ID)
	if err := os.Mkdir(target, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make mountpoint: %w", err)
	}
	m.step("mount: mountpoint made")
	o := backends.MountOptions{ReadOnly: access == AccessReadOnly, Alone: p.Alone && (e.Exclusive || p.OneWriter)}
	_, byItself := p.Fencer.(backends.Backend) // and not by a command, whose identities mean nothing to it
	if own, ok := m.owned(e.Name); ok && byItself && e.Exclusive && own.terms.Fence != nil {
		o.Identity = &own.terms.Fence.Identity
	}
	if e.Identity != nil { // also before it is this host's again
		o.Identity = e.Identity
	}
	err := p.do(ctx, func(b backends.Backend) error { return b.Mount(ctx, e.Handle, target, o) })
	if err != nil {
		return err
	}
	m.step("mount: mounted")
	mounted, err := host.IsMountpoint(target)
	if err == nil && !mounted {
		err = fmt.Errorf("nothing is mounted at %s although its backend said so: %w", target, ErrUnavailable)
	}
	return err
}

// retreat undoes a Mount that failed on the way, unless e had uses before.
func (m *Manager) retreat(ctx context.Context, e entry) {
	if len(e.Uses) > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if err := m.detach(ctx, e); err != nil {
		m.log.Warn("mount was not undone yet", "volume", e.Name, "pool", e.Pool, "err", err)
		m.poke()
	}
}

// entry returns the journal's entry of that name.
func (m *Manager) entry(name string) (entry, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	e, ok := m.mounts[name]
	return e, ok
}

// record writes e to the journal, then to memory. The caller holds the
// volume's lock.
func (m *Manager) record(e entry) error {
	m.recording.Lock()
	defer m.recording.Unlock()
	e.Lost = m.lostOf(e)
	if err := m.journal.put(e); err != nil {
		return err
	}
	m.remember(e)
	return nil
}

// remember is record for memory alone.
func (m *Manager) remember(e entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.Lost = e.lostBy(m.mounts[e.Name])
	m.mounts[e.Name] = e
}

// lostOf is why a volume is lost, which nobody who has an older entry of it may
// forget.
func (m *Manager) lostOf(e entry) string {
	now, _ := m.entry(e.Name)
	return e.lostBy(now)
}

func (e entry) lostBy(now entry) string {
	if now.ID == e.ID && now.Lost != "" {
		return now.Lost
	}
	return e.Lost
}

func (m *Manager) forget(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.mounts, name)
}
