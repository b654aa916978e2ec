package standing

import "time"

// Event is what has happened to a volume: one of the types below.
type Event interface{ event() }

type (
	// Renewed: a renewal of the session that the volume is held by was
	// answered, and the lease goes on until Deadline, counted from when the
	// renewal was sent. It counts for nothing once the lease is over or the
	// session has ended, and an answer to an older one shortens nothing.
	Renewed struct{ Deadline time.Duration }

	// SessionEnded: the session that the volume is held by has ended, whatever
	// is left of its lease. Renewals of a later session are none of this lease.
	SessionEnded struct{}

	// Readopted: the transaction of that name has put the volume under a
	// session whose lease ends at Deadline. What is Cutting or Gone stays so.
	Readopted struct{ Deadline time.Duration }

	// Replaced: the owner record is not this host's any more, or names a
	// taker, or there is a proof against it.
	Replaced struct{}

	// CutVerified: the volume is unmounted, and nobody can write to it, nor is
	// anything left to be written. It is a fact in every phase: the guard may
	// have cut what dvold, which was frozen, takes for held.
	CutVerified struct{}

	// Tick: time has passed.
	Tick struct{}
)

func (Renewed) event()      {}
func (SessionEnded) event() {}
func (Readopted) event()    {}
func (Replaced) event()     {}
func (CutVerified) event()  {}
func (Tick) event()         {}

// Step returns how the volume stands after e, which happened at now, and what
// is to be done about it. What time alone has changed by now comes before e: a
// renewal that is known of only after the deadline revives nothing.
//
// Under Cut a host reboots that has not verified the cut CutTime after the
// lease's end, for that is what a taker waits for. Under Keep it never does:
// nobody takes over without a fence, or a person who vouches, and these hold
// whether or not the cut comes to an end.
func Step(s State, e Event, now time.Duration) (State, Action) {
	s, act := s.at(now)
	owned := s.Phase == Held || s.Phase == Doubt || s.Phase == Uncertain
	switch e := e.(type) {
	case Renewed:
		if owned && s.Phase != Uncertain && !s.Ended && e.Deadline > s.Deadline {
			s.Deadline, s.Phase = e.Deadline, Held
		}
	case SessionEnded:
		if owned {
			s.Ended = true
		}
	case Readopted:
		if owned {
			s.Deadline, s.Ended, s.Phase = e.Deadline, false, Held
		}
	case Replaced:
		if owned {
			return s.lost(now), StartCut
		}
	case CutVerified:
		s.Phase, s.CutBy = Gone, 0
		return s, Nothing
	}
	if act != Nothing {
		return s, act
	}
	return s.at(now)
}

// at returns how the volume stands at now if nothing else happened.
func (s State) at(now time.Duration) (State, Action) {
	if s.Phase == Held && (s.Ended || s.Deadline != Never && now >= s.Deadline-s.TTL/2) {
		s.Phase = Doubt
	}
	act := Nothing
	if s.Phase == Doubt && s.Deadline != Never && now >= s.Deadline {
		if s.Policy == Keep {
			s.Phase = Uncertain
			return s, Nothing
		}
		s, act = s.lost(now), StartCut
	}
	if s.Phase == Cutting && s.CutBy != Never && now >= s.CutBy {
		act = Reboot
	}
	return s, act
}

// lost returns how a volume stands that has to be cut off.
func (s State) lost(now time.Duration) State {
	s.Phase = Cutting
	switch {
	case s.Policy == Keep:
		s.CutBy = Never
	case s.Deadline == Never:
		s.CutBy = now + s.CutTime
	default:
		s.CutBy = s.Deadline + s.CutTime
	}
	return s
}
