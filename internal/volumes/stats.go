package volumes

import (
	"sync/atomic"
	"time"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/internal/standing"
)

// unsettled is, beside the phases of standing, that of an exclusive volume that
// this host has mounted and does not own in its present stay in the cluster:
// not yet, or not any more.
const unsettled standing.Phase = "unsettled"

// phases are all that Stats counts volumes by.
func phases() []standing.Phase {
	return []standing.Phase{standing.Held, standing.Doubt, standing.Uncertain, standing.Cutting, standing.Gone, unsettled}
}

// Stats is how this host stands, in numbers.
type Stats struct {
	Mounted map[string]int // volumes that this host has mounted, by pool; has every configured pool
	Uses    map[string]int // mounts of them that Docker made and has not undone, likewise
	Silent  map[string]int // for how many seconds a pool's storage has not answered, likewise; 0 if it does or nothing is known

	Exclusive map[string]int // volumes that this host owns, or has mounted all the same, by phase; has every phase
	Takeovers int64          // since dvold started
	Losses    int64          // likewise

	InCluster bool
	Lease     time.Duration // how much longer this host may believe that; coordination.Never if that does not end
	Reachable bool          // the coordinator answers
	Doubted   bool          // its records are not believed
	Guarded   bool          // a guard process runs beside dvold
	Fenced    bool          // other hosts may have cut this one off, and that is not undone, or was not looked for, yet
}

// Stats counts. It asks neither the coordinator nor the storage.
func (m *Manager) Stats() Stats {
	s := Stats{
		Mounted: make(map[string]int), Uses: make(map[string]int), Silent: make(map[string]int), Exclusive: make(map[string]int),
		Takeovers: m.counters.Takeovers.Load(), Losses: m.counters.Losses.Load(),
		Guarded: m.guard.Guarded(), Fenced: m.fenced.Load(),
	}
	for _, p := range m.cfg.Pools {
		s.Mounted[p.Name], s.Uses[p.Name] = 0, 0
		s.Silent[p.Name] = int(p.silent().Seconds())
	}
	for _, p := range phases() {
		s.Exclusive[string(p)] = 0
	}
	if session, err := m.session(); err == nil && session.Context().Err() == nil {
		s.InCluster = true
		if s.Lease = session.Deadline(); s.Lease != coordination.Never {
			s.Lease = max(0, s.Lease-m.now())
		}
	}
	m.reach.mu.RLock()
	s.Reachable, s.Doubted = m.reach.away == nil, m.reach.doubt != nil
	m.reach.mu.RUnlock()
	m.count(&s)
	return s
}

// count counts what this host has mounted and what it owns.
func (m *Manager) count(s *Stats) {
	now := m.now()
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, o := range m.ownerships {
		state, _ := standing.Step(o.state, standing.Tick{}, now)
		s.Exclusive[string(state.Phase)]++
	}
	for name, e := range m.mounts {
		if e.mounted {
			s.Mounted[e.Pool]++
		}
		for _, u := range e.Uses {
			s.Uses[e.Pool] += u.Count
		}
		_, owned := m.ownerships[name]
		switch {
		case owned || !e.Exclusive:
		case e.Lost != "":
			s.Exclusive[string(standing.Cutting)]++
		case e.mounted:
			s.Exclusive[string(unsettled)]++
		}
	}
}

// Counters count what should be seldom.
type Counters struct {
	Takeovers atomic.Int64 // volumes that this host took over from a silent one
	Losses    atomic.Int64 // volumes that this host was cut off from
}
