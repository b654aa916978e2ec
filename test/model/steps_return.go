package model

import "github.com/dvol/dvold/internal/standing"

// clean says that A holds nothing of the volume, and knows it: none is mounted,
// nor about to be.
func (a *owner) clean() bool {
	return a.stage == idle && !a.mounted && (a.phase == unknown || a.phase == isGone)
}

// serves says that A holds the volume, and has not lost it as far as it knows.
func (a *owner) serves() bool {
	return a.phase == isHeld || a.phase == isDoubted || a.phase == isUncertain
}

// accusedHere says whether A sees a fence record that concerns what it holds.
func (m *model) accusedHere(s *state) bool {
	if m.UnfencedFirst {
		return s.accused(s.a.stay)
	}
	return s.fences[s.a.under] != none
}

// comeBack takes the steps by which a host that is in the cluster settles what
// it owned, or becomes the owner again ("The owner's side", "Transactions").
func (m *model) comeBack(s state) {
	a, r := s.a, s.record
	if !a.joined {
		return
	}
	if a.serves() {
		m.goesOn(s)
	}
	if t := s; a.clean() && a.stay < m.Stays && (s.fences[a.stay] != none || r.host == hostA && r.state == fencing && r.stay == a.stay) {
		m.endStay(&t)
		m.join(&t)
		m.reach(by(hostA, "is clean, and joins anew"), t)
	}
	if !a.clean() || !s.mayCommit() {
		return
	}
	mine := r.host == hostA && r.state == held
	lost := r.host == hostA && r.state == fencing && r.stay < a.stay
	if t := s; lost && !s.fences[r.stay].proven() && m.ProvesItself {
		t.fences[r.stay] = bySelf
		m.reach(by(hostA, "is clean, and proves it"), t)
	}
	outlived := lost && r.gone // its taker
	lost = lost && (r.gone && s.fences[r.stay].proven() || !m.ProvesItself)
	if t := s; mine && m.accusedHere(&s) || lost {
		t.record = record{state: free, epoch: r.epoch}
		m.reach(by(hostA, "is clean, and frees the volume"), t)
	}
	may := a.lease > m.ttl(a.stay)/2 && !(m.UnfencedFirst && s.accused(a.stay))
	if t := s; may && mine && r.stay == a.stay {
		t.a.mount(r)
		m.reach(by(hostA, "mounts its volume again"), t)
	} else if may && (mine || r.state == free || outlived) && r.epoch < m.Epochs {
		m.acquire(s, "owns the volume anew")
	}
}

// goesOn takes the steps of a host that still serves the volume: "re-adopt", or
// it finds that it has lost it.
func (m *model) goesOn(s state) {
	t, a := s, s.a
	if !s.owns() || m.accusedHere(&s) {
		m.step(&t, standing.Replaced{})
		m.reach(by(hostA, "sees that it has lost the volume"), t)
	}
	if t = s; a.under == a.stay || !s.owns() || !s.mayCommit() || m.NoProof && m.accusedHere(&s) {
		return
	}
	t.record.stay = a.stay
	if m.TermsKept {
		t.record.long = m.ttl(a.stay) > m.TTL
	}
	if !m.IdentityKept {
		t.record.identity = m.identity(a.stay)
	}
	t.a.under = a.stay
	m.step(&t, standing.Readopted{Deadline: now + ticks(a.lease)})
	m.owned(&t, a.identity)
	m.reach(by(hostA, "re-adopts the volume"), t)
}

// acquire makes A the next owner ("acquire", "own").
func (m *model) acquire(s state, what string) {
	a := &s.a
	s.record = record{state: held, host: hostA, stay: a.stay, epoch: s.record.epoch + 1, identity: m.atFirst(a.stay), long: m.ttl(a.stay) > m.TTL}
	a.mount(s.record)
	m.owned(&s, s.record.identity)
	m.reach(by(hostA, what), s)
}

// mount begins to mount what A owns by the record.
func (a *owner) mount(r record) {
	a.stage, a.phase, a.under, a.epoch, a.identity = acquired, unknown, r.stay, r.epoch, r.identity
}

// unfence takes the steps that undo fences ("Un-fencing"). The storage may get
// the call, and the call of a dvold that was killed, long after it was made.
func (m *model) unfence(s state) {
	a, r := s.a, s.record
	if t := s; a.orphan > 0 {
		t.a.orphan = 0
		m.undo(&t, a.orphan)
		m.reach(by(hostA, "'s un-fence, of a dvold that was killed, arrives"), t)
	}
	if t := s; a.unfences > 0 {
		t.a.unfences = 0
		m.undo(&t, a.unfences)
		m.reach(by(hostA, "'s un-fence is done"), t)
		if s.mayCommit() {
			for stay := range a.unfences + 1 {
				t.fences[stay] = none
			}
			m.reach(by(hostA, "'s un-fence is done, and the proof deleted"), t)
		}
		return
	}
	if !a.joined || !s.accused(a.stay-1) {
		return
	}
	owns := r.host == hostA && (r.state == held || r.state == fencing && !r.gone) && (r.stay < a.stay || m.UnfencedFirst) || m.Neighbour && s.neighbour < proved
	clean := a.clean() || !m.UnfencedFirst && a.under == a.stay
	if !owns && (clean || !m.CleanFirst) {
		s.a.unfences = a.stay - 1
		m.reach(by(hostA, "begins to un-fence itself"), s)
	}
}

// undo undoes fences at the storage: of the stays up to one, or of A's address.
func (m *model) undo(s *state, stay uint8) {
	for i := range s.storage.fences {
		if uint8(i) <= stay || !m.UndoesEarlier && m.Address {
			s.storage.fences[i] = 0
		}
	}
}
