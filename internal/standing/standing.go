// Package standing says how a host stands to an exclusive volume that it has
// mounted: what it may still do, and when it has to cut the volume off.
//
// It is a pure function of state, event and time, docs/takeover.md's "The
// owner's side", which dvold and the guard both apply and test/model searches.
// Times are CLOCK_BOOTTIME and given by the caller.
package standing

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Never is the Deadline of a lease that does not end by itself, which is what
// the embedded coordinator gives. No other value means that; 0 least of all,
// so that a deadline that was forgotten is over, not eternal.
const Never = time.Duration(math.MaxInt64)

// Policy is what becomes of a volume whose lease is over.
type Policy string

const (
	Keep Policy = "keep" // it is served on: who takes it over has to fence
	Cut  Policy = "cut"  // it is cut off: who takes it over may rely on that
)

// Phase is where a volume stands. Phases go on from one to the next or a later
// one, except that a renewal ends Doubt, and Readopted ends Doubt and Uncertain.
type Phase string

const (
	Held      Phase = "held"      // renewed less than TTL/2 ago
	Doubt     Phase = "doubt"     // not renewed for TTL/2, or the session has ended before its lease
	Uncertain Phase = "uncertain" // Keep: the lease is over
	Cutting   Phase = "cutting"   // Cut: the lease is over; or the volume has been taken over
	Gone      Phase = "cut"       // it was cut off, and that is verified
)

// State is how one volume stands, as of the last Step.
type State struct {
	Policy   Policy
	Phase    Phase
	TTL      time.Duration // of the session
	CutTime  time.Duration // how long a cut may take
	Deadline time.Duration // the end of the lease, or Never
	Ended    bool          // the session that the lease is of has ended
	CutBy    time.Duration // of Cutting: unless it is verified by then, the host reboots; may be Never
}

// Action is what the caller of Step has to do.
type Action string

const (
	Nothing  Action = ""
	StartCut Action = "start cut" // once per loss, unless that has to be a Reboot
	Reboot   Action = "reboot"    // at once; again with each Step, until it is done
)

// New returns how a volume stands that was just acquired, under a session whose
// lease ends at deadline. Step it with Tick if that may be over.
func New(p Policy, ttl, cutTime, deadline time.Duration) State {
	return State{Policy: p, Phase: Held, TTL: ttl, CutTime: cutTime, Deadline: deadline}
}

// MayMount returns nil if a new mount of the volume may be answered now, and
// otherwise why not, in a clause for the user.
func (s State) MayMount(now time.Duration) error {
	s, _ = s.at(now)
	switch s.Phase {
	case Held:
		return nil
	case Doubt:
		if s.Ended {
			return errors.New("the session that this host owns it by has ended")
		}
		return fmt.Errorf("this host's session was not renewed for %v", (now - (s.Deadline - s.TTL)).Round(time.Second))
	case Uncertain:
		return fmt.Errorf("this host's lease has been over for %v", (now - s.Deadline).Round(time.Second))
	default:
		return s.MayServe(now)
	}
}

// MayServe returns nil if the volume, which is mounted, may be served on now, and
// otherwise why not, likewise.
func (s State) MayServe(now time.Duration) error {
	s, _ = s.at(now)
	switch s.Phase {
	case Cutting:
		return errors.New("this host has lost it, and is cutting it off")
	case Gone:
		return errors.New("this host has lost it, and has cut it off")
	}
	return nil
}
