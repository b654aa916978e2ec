package model

// Violation is a property that is broken.
type Violation uint8

// What must not happen, the worst first. Of the last two harm comes only to the
// use of the volume.
const (
	Sound          Violation = iota
	TwoWriters               // a write of an earlier owner reaches the storage after one of a later owner
	FalseProof               // there is a proof against a stay of A that can still write
	EpochBack                // the owner's epoch goes back, or stays while the owner changes
	CutOffOwner              // A becomes the owner, or goes on being it, of what it is cut off from
	ForgottenFence           // A is cut off, and no record says so
	DeadEnd                  // nobody gets to use the volume any more, even if nothing else goes wrong
	TooMany                  // the search was given up
)

func (v Violation) String() string {
	return [...]string{
		"no violation",
		"a write of an earlier owner reaches the storage after one of a later owner",
		"there is a proof against a host that can still write",
		"the owner's epoch goes back",
		"a host is made the owner of what it is cut off from",
		"a host is cut off, and no record says so",
		"nobody gets to use the volume any more",
		"too many states",
	}[v]
}

// check returns what is broken in s, which came after before.
func (m *model) check(before, s *state) Violation {
	for stay := uint8(1); stay <= maxStays; stay++ {
		if s.fences[stay].proven() && s.canWrite(stay) {
			return FalseProof
		}
	}
	was, is := before.record, s.record
	if is.epoch < was.epoch || is.epoch == was.epoch && is.host != was.host && is.state != free && was.state != free {
		return EpochBack
	}
	if !m.Stall && s.storage.fences != [maxStays + 1]uint8{} && !s.accused(maxStays) && s.record.state != fencing && !s.neighbour.busy() {
		return ForgottenFence
	}
	return Sound
}

// busy says whether D is at work.
func (p progress) busy() bool { return p == intends || p == cutOff }

// canWrite says whether what A holds under a stay can reach the storage.
func (s *state) canWrite(stay uint8) bool {
	a := &s.a
	return a.under == stay && (a.writing && a.mounted || a.dirty != 0) && !s.storage.fenced(a.identity)
}

// fenced says whether the storage refuses what comes from an identity.
func (s *storage) fenced(identity uint8) bool {
	for _, f := range s.fences {
		if f == identity && f != 0 {
			return true
		}
	}
	return false
}

// accused says whether there is a fence record against A in its stays up to one.
func (s *state) accused(stay uint8) bool {
	for _, p := range s.fences[:stay+1] {
		if p != none {
			return true
		}
	}
	return false
}

// land is a write's arrival at the storage.
func (s *state) land(h host, epoch uint8) {
	if epoch < s.storage.epoch || epoch == s.storage.epoch && h != s.storage.writer {
		s.bad = TwoWriters
	}
	s.storage.epoch, s.storage.writer = epoch, h
}

// owned notes that A is made the owner of what it mounts, or has mounted, by an
// identity. A taker that lost its session may fence it at any time: then this is
// nobody's fault.
func (m *model) owned(s *state, identity uint8) {
	if !m.Stall && s.storage.fenced(identity) {
		s.bad = CutOffOwner
	}
}
