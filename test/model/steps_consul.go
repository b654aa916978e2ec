package model

import "github.com/dvol/dvold/internal/standing"

const tickLabel = "tick"

// tick lets time pass: for Consul, for the taker that waits, and for A unless
// that is paused or off. The guard looks at the clock at once ("The guard"), so
// no deadline is missed; dvold, without it, may miss them all.
func (m *model) tick(s state) {
	s.session.idle = min(s.session.idle+1, m.Server)
	s.session.deposed = max(s.session.deposed-1, 0)
	s.wait = max(s.wait-1, 0)
	if s.a.power == on {
		m.tickOwner(&s)
	}
	m.reach(by(nobody, tickLabel), s)
}

func (m *model) tickOwner(s *state) {
	a := &s.a
	a.lease = max(a.lease-1, 0)
	a.age = min(a.age+1, m.ttl(a.stay))
	a.due = max(a.due-1, -m.F-1)
	a.cutBy = max(a.cutBy-1, -1)
	if a.joined && a.lease == 0 && m.NeverRevived {
		m.endStay(s)
	}
	if m.Guarded {
		m.step(s, standing.Tick{})
	}
}

// consul takes the steps of the coordinator. Reads and transactions are steps of
// whoever makes them; what is slow, lost and untrue is the answer to a renewal.
// One that has to be confirmed counts as renewed when it is, for nothing is
// believed in before.
func (m *model) consul(s state) {
	if t := s; t.session.live && (m.Early || t.session.idle >= m.Server) {
		t.session.live = false
		if !m.Frozen {
			t.session.deposed = m.Deposed
		}
		m.reach(by(nobody, "Consul ends A's session"), t)
	}
	r := s.a.renewal
	if r != sent && r != sentInDoubt {
		return
	}
	confirmed := m.Confirm == Always || m.Confirm == InDoubt && r == sentInDoubt
	s.a.renewal = answered
	if t := s; t.session.live {
		t.session.idle = 0
		m.reach(by(nobody, "Consul renews A's session"), t)
	} else if t.session.deposed > 0 && !confirmed {
		m.reach(fault(nobody, "a deposed leader renews A's session, which has ended"), t)
	} else if m.Frozen && !t.session.thawed && !confirmed {
		t.session.thawed = true
		m.reach(fault(nobody, "a deposed leader thaws, and renews A's session, which has ended"), t)
	}
}
