package volumes

import (
	"context"
	"fmt"
	"slices"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/guard"
	"github.com/dvol/dvold/internal/standing"
)

// lose gives a volume up that this host has mounted and does not own any more.
// From now on nobody mounts it here; the guard kills who writes to it, and
// unmounts it. It may be repeated.
func (m *Manager) lose(e entry, why string) error {
	m.recording.Lock()
	defer m.recording.Unlock()
	m.mu.Lock()
	now, ok := m.mounts[e.Name]
	if !ok || now.ID != e.ID || now.Lost != "" {
		m.mu.Unlock()
		return nil
	}
	now.Lost = why
	m.mounts[e.Name] = now
	if o, ok := m.ownerships[e.Name]; ok {
		o.state, _ = standing.Step(o.state, standing.Replaced{}, m.now())
		m.ownerships[e.Name] = o
	}
	m.mu.Unlock()
	m.counters.Losses.Add(1)
	m.log.Error("volume is lost: its containers are killed", "volume", e.Name, "pool", e.Pool, "why", why)
	if err := m.journal.put(now); err != nil {
		m.log.Error("that a volume is lost was not written down", "volume", e.Name, "err", err)
	}
	return m.order(now)
}

// order tells the guard when to cut a volume off: at the end of the lease, where
// the terms say so, or now, if it is lost.
func (m *Manager) order(e entry) error {
	m.ordering.Lock()
	defer m.ordering.Unlock()
	now, ok := m.entry(e.Name)
	if !ok || now.ID != e.ID {
		return nil // it was given back meanwhile
	}
	e.Lost = now.Lost
	o, ok := m.owned(e.Name)
	if e.Lost == "" && (!ok || o.terms.OnSessionLoss != standing.Cut) {
		return m.guard.Remove(e.ID) // there may be one of an earlier configuration
	}
	order := guard.Order{
		Volume: cut.Volume{ID: e.ID, Mountpoint: m.target(e.ID), Sole: m.sole(e)}, Incarnation: o.incarnation,
		Deadline: coordination.Never, CutTime: m.cfg.CutTime, Now: e.Lost != "",
	}
	if ok && o.terms.OnSessionLoss == standing.Cut {
		order.Deadline, order.CutTime = o.state.Deadline, o.terms.CutTime
	}
	if p := m.pools[e.Pool]; p != nil {
		order.Servers = p.Exclusive.Servers
	}
	if e.Mount != nil {
		order.Servers = union(order.Servers, e.Mount.Servers)
	}
	for _, old := range m.guard.Orders() {
		if old.ID == e.ID { // what it knows stays true, also when dvold does not know it any more
			order.Device, order.Root, order.Type, order.Source, order.Behind = old.Device, old.Root, old.Type, old.Source, old.Behind
			order.Servers = union(order.Servers, old.Servers)
			if !ok {
				order.Deadline, order.CutTime, order.Incarnation = old.Deadline, old.CutTime, old.Incarnation
			}
		}
	}
	if v, err := order.Identified(); err == nil {
		order.Volume = v
	}
	if err := m.guard.Put(order); err != nil {
		return fmt.Errorf("tell the guard: %w", err)
	}
	return nil
}

// finishLoss forgets a volume that was lost, once the guard has verified that
// nothing of it is left, and lets go of it, should it still be this host's. Should
// the guard not have been told, it tells it.
func (m *Manager) finishLoss(e entry) {
	outcome, ok := m.guard.Outcome(e.ID)
	if !ok && !slices.ContainsFunc(m.guard.Orders(), func(o guard.Order) bool { return o.ID == e.ID && o.Now }) {
		m.sayKept(e.Name, m.order(e))
		return
	}
	if !ok || outcome.Verified == 0 {
		return
	}
	release, ok := m.locks.try(e.Name)
	if !ok {
		return
	}
	m.calls.Add(1)
	go func() {
		defer m.calls.Done()
		ctx, cancel := context.WithTimeout(m.background, sweepTimeout)
		defer cancel()
		_, err := callLocked(ctx, m, e.Name, release, func(ctx context.Context) (struct{}, func(context.Context), error) {
			e, ok := m.entry(e.Name)
			if !ok || e.Lost == "" {
				return struct{}{}, nil, nil
			}
			e.Uses = nil
			if err := m.record(e); err != nil {
				return struct{}{}, nil, err
			}
			m.mu.Lock()
			if o, ok := m.ownerships[e.Name]; ok {
				o.state, _ = standing.Step(o.state, standing.CutVerified{}, m.now())
				m.ownerships[e.Name] = o
			}
			m.mu.Unlock()
			m.step("lose: cut verified")
			return struct{}{}, nil, m.dismount(ctx, e)
		})
		if m.sayKept(e.Name, err); err != nil {
			return
		}
		m.later(&m.fenced)
		m.log.Warn("volume was cut off from this host", "volume", e.Name, "pool", e.Pool, "why", e.Lost, "killed", outcome.Killed)
	}()
}

// sayKept tells the log what keeps a volume that was lost, if that is new. It is tried again
// and again.
func (m *Manager) sayKept(name string, err error) {
	m.mu.Lock()
	before := m.kept[name]
	if err == nil {
		delete(m.kept, name)
	} else {
		m.kept[name] = err.Error()
	}
	m.mu.Unlock()
	if err != nil && err.Error() != before {
		m.log.Warn("a volume that was lost is not forgotten yet", "volume", name, "err", err)
	}
}
