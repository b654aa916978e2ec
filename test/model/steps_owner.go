package model

import "github.com/dvol/dvold/internal/standing"

// owner takes the steps of host A. Each may come at any time after the one
// before, or never: dvold may be slow, frozen or dead at any line.
func (m *model) owner(s state) {
	t := s
	switch s.a.power {
	case off:
		if s.a.stay < m.Stays {
			t.a.power = on
			m.reach(by(hostA, "boots"), t)
		}
		return
	case paused:
		t.a.power = on
		m.reach(by(hostA, "goes on"), t)
		return
	}
	if s.faults > 0 {
		m.fail(s)
	}
	m.session(s)
	m.mount(s)
	m.use(s)
	m.cut(s)
	m.comeBack(s)
	m.unfence(s)
}

// fail has something go wrong with A.
func (m *model) fail(s state) {
	s.faults--
	t := s
	t.powerOff()
	m.reach(fault(hostA, "crashes"), t)
	t = s
	m.killDaemon(&t)
	m.reach(fault(hostA, "'s dvold is killed"), t)
	if m.Pauses {
		s.a.power = paused
		m.reach(fault(hostA, "is paused, with its guard and its clock"), s)
	}
}

// powerOff is a crash or a reboot: what has not reached the storage is lost.
func (s *state) powerOff() {
	s.a = owner{power: off, stay: s.a.stay, orphan: max(s.a.orphan, s.a.unfences)}
}

// killDaemon ends dvold. A mount that was not answered is undone by the next
// one; a call to the storage that is on its way may still arrive.
func (m *model) killDaemon(s *state) {
	m.endStay(s)
	a := &s.a
	a.orphan, a.unfences = max(a.orphan, a.unfences), 0
	if a.stage != idle && a.stage != serving {
		a.stage, a.mounted, a.phase = idle, false, unknown
	}
}

// endStay has dvold give up its session for ever.
func (m *model) endStay(s *state) {
	s.a.joined = false
	if s.a.under == s.a.stay {
		m.step(s, standing.SessionEnded{})
	}
}

// session takes the steps that keep A in the cluster ("The owner's side").
func (m *model) session(s state) {
	t, a := s, s.a
	if !a.joined {
		if a.stay < m.Stays {
			m.join(&t)
			m.reach(by(hostA, "joins anew"), t)
		}
		return
	}
	if t := s; !t.session.live {
		m.endStay(&t)
		m.reach(by(hostA, "learns that its session has ended"), t)
	}
	switch {
	case !m.Slow:
		if t.session.live {
			t.session.idle = 0
			m.renewed(&t)
			m.reach(by(hostA, "renews its session"), t)
		}
	case a.renewal == noRenewal:
		t.a.renewal = sent
		if m.ttl(a.stay)-a.lease >= m.ttl(a.stay)/2 {
			t.a.renewal = sentInDoubt
		}
		m.reach(by(hostA, "sends a renewal"), t)
	case a.renewal == answered:
		m.renewed(&t)
		m.reach(by(hostA, "gets the answer to the renewal"), t)
	}
	if t := s; a.renewal != noRenewal {
		t.a.renewal = noRenewal
		m.reach(fault(hostA, "gives the renewal up"), t)
	}
}

// join begins a new stay. The host's key changes: it is locked again, or passed
// on by a session that Consul still takes for live.
func (m *model) join(s *state) {
	a := &s.a
	a.stay++
	a.joined, a.lease, a.renewal = true, m.ttl(a.stay), noRenewal
	s.session = session{live: true}
	for i := range s.takers {
		switch t := &s.takers[i]; {
		case !m.KeyUnchanged:
		case t.progress == waits || t.progress == waited:
			*t = taker{}
		case t.progress == waitsIntent:
			t.progress = intends
		}
	}
}

// renewed counts a renewal for the session and for what is held under it.
func (m *model) renewed(s *state) {
	a := &s.a
	lease := m.ttl(a.stay)
	if m.FromSending {
		lease -= a.age
	}
	a.renewal = noRenewal
	a.lease = max(a.lease, lease)
	if a.under != a.stay && m.OwnSession {
		return
	}
	if !m.OwnSession {
		a.ended = false
	}
	if !m.NeverRevived && (a.phase == isUncertain || a.phase == isCutting) {
		a.phase, a.due = isHeld, lease
	}
	m.step(s, standing.Renewed{Deadline: now + ticks(lease)})
}

// mount takes the steps from the acquisition to the answer ("A mount of an
// exclusive volume", 5).
func (m *model) mount(s state) {
	t, a := s, s.a
	current := a.joined && a.stay == a.under
	switch a.stage {
	case acquired:
		t.a.stage, t.a.phase = told, isHeld
		if current {
			t.a.due = a.lease
		}
		if m.Guarded {
			m.step(&t, standing.Tick{})
		}
		m.reach(by(hostA, "tells the guard"), t)
	case told:
		if m.Connect {
			m.connects(s)
		} else {
			m.mounts(s)
		}
	case connected:
		m.names(s, current)
		if !m.NamedFirst {
			m.mounts(s)
		}
	case named:
		m.mounts(s)
	case mounting:
		if v := m.standing(&a); !m.Checked || current && v.MayMount(now) == nil {
			t.a.stage, t.a.writing = serving, true
			m.reach(by(hostA, "answers the mount, and a container runs"), t)
		}
		t = s
		t.a.stage, t.a.mounted, t.a.phase = idle, false, unknown
		m.reach(by(hostA, "undoes the mount"), t)
	}
}

// connects has the storage know A by a client: by the one that is there already,
// or another.
func (m *model) connects(s state) {
	for _, identity := range []uint8{s.a.identity, m.identity(s.a.stay)} {
		if t := s; identity != 0 && !s.storage.fenced(identity) {
			t.a.stage, t.a.identity = connected, identity
			m.reach(by(hostA, "connects"), t)
		}
	}
	s.a.stage, s.a.phase = idle, unknown
	m.reach(by(hostA, "does not connect"), s)
}

// names writes the client into the record, if A is the owner still.
func (m *model) names(s state, current bool) {
	t, a := s, s.a
	t.a.stage = named
	switch {
	case !m.NamedInOrder:
		t.record = record{state: held, host: hostA, stay: a.under, epoch: a.epoch, identity: a.identity}
		m.reach(by(hostA, "writes down its client"), t)
	case current && s.owns() && s.mayCommit():
		t.record.identity = a.identity
		m.reach(by(hostA, "writes down its client"), t)
	}
	s.a.stage, s.a.phase = idle, unknown
	m.reach(by(hostA, "disconnects"), s)
}

// mounts is the mount itself.
func (m *model) mounts(s state) {
	s.a.stage, s.a.mounted = mounting, true
	if m.MountWrites && !s.storage.fenced(s.a.identity) {
		s.land(hostA, s.a.epoch)
	}
	m.reach(by(hostA, "mounts"), s)
}

// use takes the steps of a volume in use, and of a release ("release").
func (m *model) use(s state) {
	a := s.a
	if t := s; a.writing && a.mounted && a.dirty == 0 {
		t.a.dirty = a.epoch
		m.reach(by(hostA, "'s container writes"), t)
	}
	if t := s; a.dirty != 0 && !s.storage.fenced(a.identity) {
		t.land(hostA, a.dirty)
		t.a.dirty = 0
		m.reach(by(hostA, "'s write reaches the storage"), t)
	}
	if t := s; a.stage == serving && s.mayCommit() && s.owns() && (a.dirty == 0 || !m.ReleasedIsGone) {
		t.a.stage, t.a.mounted, t.a.writing, t.a.phase = idle, false, false, unknown
		t.record = record{state: free, epoch: s.record.epoch}
		m.reach(by(hostA, "releases the volume"), t)
	}
}

// mayCommit says whether a transaction of A's succeeds, if its records are as
// they were read: all are fenced by the session ("Transactions").
func (s *state) mayCommit() bool { return s.a.joined && s.session.live }

// owns says whether A is the owner by the record, in the stay that it holds the
// volume under.
func (s *state) owns() bool {
	return s.record.state == held && s.record.host == hostA && s.record.stay == s.a.under
}

// cut takes the steps of a cut ("Cut"): those of the guard, if there is one, and
// otherwise of dvold, which also has to look at the clock.
func (m *model) cut(s state) {
	a := s.a
	if t := s; !m.Guarded && a.phase != unknown && a.phase != isGone {
		m.step(&t, standing.Tick{})
		m.reach(by(hostA, "'s dvold looks at the clock"), t)
	}
	if t := s; a.phase == isCutting && a.dirty != 0 {
		t.a.dirty = 0
		m.reach(by(hostA, "drops what it has not written"), t)
	}
	if a.dirty != 0 && m.Synced || a.phase != isCutting && (a.phase != isGone || !a.mounted) {
		return
	}
	s.a.mounted, s.a.writing = false, false
	if a.stage == serving {
		s.a.stage = idle
	}
	m.step(&s, standing.CutVerified{})
	m.reach(by(hostA, "has cut the volume off"), s)
}
