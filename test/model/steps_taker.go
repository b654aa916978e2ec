package model

import "github.com/dvol/dvold/internal/standing"

// taker takes the steps of B or C ("Takeover"), each at any time after the one
// before, or never.
func (m *model) taker(s state, i int) {
	me, t := hostB+host(i), s.takers[i]
	if t.stale {
		m.late(s, i, me)
		return
	}
	if s.faults > 0 && t.progress >= silent && t.progress <= proved {
		m.failTaker(s, i, me)
	}
	switch t.progress {
	case watching:
		m.begins(s, i, me)
	case silent, waited:
		m.intends(s, i, me)
	case waits, waitsIntent:
		m.waitEnds(s, i, me)
	case took, wrote:
		m.writes(s, i, me)
		return
	}
	m.prepares(s, i, me)
	m.takes(s, i, me)
}

// failTaker has something go wrong with a taker.
func (m *model) failTaker(s state, i int, me host) {
	s.faults--
	if s.record.state == fencing && s.record.taker == me {
		s.record.gone = true
	}
	if n := s; m.Stall {
		n.takers[i].stale = true
		m.reach(fault(me, "loses its session, and doesn't know"), n)
	}
	s.takers[i] = taker{}
	m.reach(fault(me, "is killed, and comes back"), s)
}

// late takes the steps of a taker that doesn't know that its session is over: no
// transaction of its succeeds, but the storage asks for no session.
func (m *model) late(s state, i int, me host) {
	if n := s; m.Fence && s.takers[i].progress == intends {
		m.fence(&n, i)
		n.takers[i] = taker{}
		m.reach(by(me, "fences A, late"), n)
	}
	s.takers[i] = taker{}
	m.reach(by(me, "joins anew"), s)
}

// begins takes the steps of a taker that has begun nothing ("Who is silent",
// "Two takers"). A pool that can fence needs no session's end, only a hint.
func (m *model) begins(s state, i int, me host) {
	n, r := s, s.record
	switch {
	case r.state == free && r.epoch < m.Epochs:
		n.own(i, me)
		m.reach(by(me, "acquires the volume"), n)
	case r.host == hostA && r.state == held && (!s.session.live || m.Fence):
		n.takers[i] = taker{progress: silent, stay: r.stay}
		m.reach(by(me, "finds A silent"), n)
	case r.state == fencing && r.gone:
		n.takers[i] = taker{progress: intends, stay: r.stay}
		n.record.taker, n.record.gone = me, false
		if m.Fence && m.Recorded {
			n.records(r.stay)
		}
		m.reach(by(me, "goes on in the other taker's place"), n)
	}
}

// intends takes the step of that name ("intend"), or has the taker wait before.
func (m *model) intends(s state, i int, me host) {
	t, r := s.takers[i], s.record
	if r.host != hostA || r.state != held || r.stay != t.stay {
		s.takers[i] = taker{}
		m.reach(by(me, "sees that the owner has changed"), s)
		return
	}
	if t.progress == silent && !m.Fence && !m.IntendsFirst {
		m.waits(s, i, me, waits)
		return
	}
	s.takers[i].progress = intends
	if t.progress == waited {
		s.takers[i].progress = cutOff
	}
	if m.Intended {
		s.record.state, s.record.taker = fencing, me
		if m.Recorded && s.fences[r.stay] == none {
			s.fences[r.stay] = recorded
		}
	}
	m.reach(by(me, "intends to take over"), s)
}

// records writes down that a fence is about to be made. One that was undone is
// written anew; one that A is about to take back has another version then, so that
// only the un-fence itself is left of that.
func (s *state) records(stay uint8) {
	if s.fences[stay] == none {
		s.fences[stay] = recorded
	}
	if s.a.unfences >= stay {
		s.a.orphan, s.a.unfences = max(s.a.orphan, s.a.unfences), 0
	}
}

// mine says whether the record is as the taker left it.
func (m *model) mine(s *state, i int, me host) bool {
	r := s.record
	if r.host != hostA || r.stay != s.takers[i].stay {
		return false
	}
	if !m.Intended {
		return r.state == held
	}
	return r.state == fencing && r.taker == me && !r.gone
}

// prepares takes the steps from the intent to the proof.
func (m *model) prepares(s state, i int, me host) {
	t := s.takers[i]
	proof := &s.fences[t.stay]
	switch n := s; {
	case t.progress == intends:
		if m.mine(&s, i, me) && (proof.proven() || m.accepted(&s, t)) {
			n.takers[i].progress = proved
			m.reach(by(me, "finds a proof"), n)
		}
		if n = s; m.Fence {
			m.fence(&n, i)
			n.takers[i].progress = cutOff
			m.reach(by(me, "fences A"), n)
		} else if m.mine(&s, i, me) {
			m.waits(s, i, me, waitsIntent)
		}
	case t.progress == cutOff && (m.mine(&s, i, me) || !m.Intended):
		if m.Recorded && m.Intended && *proof == none {
			n.takers[i].progress, n.fences[t.stay] = intends, recorded
			m.reach(by(me, "finds its fence record deleted, and begins again"), n)
			return
		}
		n.takers[i].progress = proved
		switch {
		case proof.proven():
		case m.Fence:
			n.fences[t.stay] = byFence
		default:
			n.fences[t.stay] = byLease
		}
		m.reach(by(me, "writes the proof"), n)
	}
}

// fence cuts off the identity that A recorded, in the stay that it recorded it.
func (m *model) fence(s *state, i int) {
	if m.FenceWorks {
		stay := s.takers[i].stay
		identity := m.identity(stay)
		if s.record.host == hostA {
			identity = s.record.identity
		}
		if identity != 0 {
			s.storage.fences[stay] = identity
		}
	}
}

// waits begins a taker's wait, from a consistent read that finds A's key free.
// The taker's clock may be fast, and the read slow.
func (m *model) waits(s state, i int, me host, p progress) {
	if s.session.live || m.TermsAccept && m.Policy != standing.Cut {
		return
	}
	s.takers[i].progress = p
	for early := range m.Skew + m.SlowRead + 1 {
		if n := s; early <= m.Skew || !m.WaitFromAnswer {
			n.wait = max(m.w(&s)-early, 0)
			m.reach(by(me, "reads that A's key is free, and begins to wait"), n)
		}
	}
}

func (m *model) waitEnds(s state, i int, me host) {
	if s.wait > 0 {
		return
	}
	t := &s.takers[i]
	if t.progress == waits {
		t.progress = waited
	} else {
		t.progress = cutOff
	}
	m.reach(by(me, "has waited long enough"), s)
}

// w is W, by the terms in the record.
func (m *model) w(s *state) int8 {
	w := m.ExtraWait
	if m.WaitTTL {
		w += m.TTL
		if s.record.long {
			w += m.LongerTTL
		}
	}
	if m.WaitF {
		w += m.F
	}
	if m.WaitDrift {
		w += m.Drift
	}
	return w
}

// accepted says whether a taker takes the proof of another domain for its own.
func (m *model) accepted(s *state, t taker) bool { return !m.Covered && s.elsewhere && t.stay == 1 }

// takes takes the step of that name ("take"), or the one back.
func (m *model) takes(s state, i int, me host) {
	t := s.takers[i]
	if t.progress < intends {
		return
	}
	proven := t.progress == proved && (s.fences[t.stay].proven() || m.accepted(&s, t)) || !m.Proven
	switch mine := m.mine(&s, i, me); {
	case mine && proven && s.record.epoch < m.Epochs:
		s.own(i, me)
		m.reach(by(me, "takes the volume"), s)
	case !mine:
		s.takers[i] = taker{}
		m.reach(by(me, "sees that the owner has changed"), s)
	case t.progress == proved && !proven:
		s.takers[i].progress = intends
		m.reach(by(me, "sees that the proof is deleted"), s)
	}
}

func (s *state) own(i int, me host) {
	s.record = record{state: held, host: me, epoch: s.record.epoch + 1}
	s.takers[i] = taker{progress: took}
}

// writes takes the steps of a taker that owns the volume. It is never at fault:
// what it could do wrong then, A does.
func (m *model) writes(s state, i int, me host) {
	switch s.takers[i].progress {
	case took:
		s.land(me, s.record.epoch)
		s.takers[i].progress = wrote
		m.reach(by(me, "writes"), s)
	case wrote:
		if s.record.epoch < m.Epochs {
			s.record = record{state: free, epoch: s.record.epoch}
			s.takers[i] = taker{}
			m.reach(by(me, "releases the volume"), s)
		}
	}
}

// neighbour takes the steps of D's takeover of another volume, which A has held
// since its first stay and a fence cuts off together with the one. That volume
// has an owner record of its own; they share the fence and its record.
func (m *model) neighbour(s state) {
	n := s
	switch s.neighbour {
	case watching:
		n.neighbour = intends
		if m.Recorded && n.fences[1] == none {
			n.fences[1] = recorded
		}
		m.reach(by(hostD, "intends to take over another volume of A's"), n)
		if n = s; s.a.joined && s.a.stay > 1 {
			n.neighbour = proved
			m.reach(by(hostA, "cuts and frees its other volume"), n)
		}
	case intends:
		n.neighbour = cutOff
		n.storage.fences[1] = m.identity(1)
		m.reach(by(hostD, "fences A"), n)
	case cutOff:
		n.neighbour = proved
		if !n.fences[1].proven() {
			n.fences[1] = byFence
		}
		m.reach(by(hostD, "writes the proof, and takes the other volume"), n)
	}
}
