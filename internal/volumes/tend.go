package volumes

import (
	"time"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/internal/guard"
	"github.com/dvol/dvold/internal/standing"
)

// How often the leases of what this host owns are looked at, and how often it is
// whether it owns anything: before half of a lease is over.
const (
	tendInterval = 200 * time.Millisecond
	idleInterval = 2 * time.Second
)

// tend watches over the exclusive volumes of this host: their leases, which the
// guard is told of, and what becomes of those that are lost.
func (m *Manager) tend() {
	defer m.calls.Done()
	tick := time.NewTimer(0)
	defer tick.Stop()
	var told time.Duration
	var current coordination.Session
	for {
		session, err := m.session()
		if err != nil {
			session = nil
		}
		var renewed <-chan struct{}
		if session != nil {
			renewed = session.Renewed()
			if session != current {
				current, told = session, 0
			}
			if deadline := session.Deadline(); deadline > told {
				m.renewed(session.Incarnation(), deadline)
				told = deadline
			}
		}
		m.age(session)
		if session != nil {
			m.promise(session)
		}
		pause := idleInterval
		for _, e := range m.exclusiveEntries() {
			pause = tendInterval
			if e.Lost != "" {
				m.finishLoss(e)
			}
		}
		tick.Reset(pause)
		select {
		case <-m.background.Done():
			return
		case <-tick.C:
		case <-renewed:
		}
	}
}

// renewed notes that the lease of a stay goes on, and tells the guard.
func (m *Manager) renewed(incarnation uint64, deadline time.Duration) {
	now := m.now()
	var over []string
	m.mu.Lock()
	for name, o := range m.ownerships {
		if o.incarnation == incarnation {
			var act standing.Action
			o.state, act = standing.Step(o.state, standing.Renewed{Deadline: deadline}, now)
			m.ownerships[name] = o
			if act != standing.Nothing {
				over = append(over, name)
			}
		}
	}
	m.mu.Unlock()
	m.loseAll(over)
	if err := m.guard.Renew(incarnation, deadline); err != nil {
		m.log.Error("the guard was not told of a renewal, and will cut volumes off", "err", err)
	}
}

// age has time pass for what this host owns, in stays other than session
// without a session. Volumes whose lease is over are given up for lost, by those
// of their terms that say so: the guard cuts them off.
func (m *Manager) age(session coordination.Session) {
	now := m.now()
	var over []string
	m.mu.Lock()
	for name, o := range m.ownerships {
		var act standing.Action
		before := o.state.Phase
		if session == nil || session.Incarnation() != o.incarnation || session.Context().Err() != nil {
			o.state, act = standing.Step(o.state, standing.SessionEnded{}, now)
		}
		if act == standing.Nothing {
			o.state, act = standing.Step(o.state, standing.Tick{}, now)
		}
		m.ownerships[name] = o
		if act != standing.Nothing { // the guard reboots by itself
			over = append(over, name)
		}
		if before != o.state.Phase && o.state.Phase == standing.Uncertain {
			m.log.Warn("the lease of a volume is over; this host goes on with it, for whoever takes it over must cut this host off", "volume", name)
		}
	}
	m.mu.Unlock()
	m.loseAll(over)
}

// loseAll loses volumes whose lease is over.
func (m *Manager) loseAll(names []string) {
	for _, name := range names {
		if e, ok := m.entry(name); ok {
			if err := m.lose(e, "this host could not renew its session in time"); err != nil {
				m.log.Error("a volume that is lost was not given up", "volume", name, "err", err)
			}
		}
	}
}

// standBy cuts volumes off for as long as no guard process runs beside dvold.
func (m *Manager) standBy() {
	defer m.calls.Done()
	guard.Standby(m.background, m.guard, m.cfg.Guard, m.cutter, m.log)
}
