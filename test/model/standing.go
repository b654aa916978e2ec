package model

import (
	"time"

	"github.com/dvol/dvold/internal/standing"
)

// phase is standing.Phase, small; unknown is before the guard is told.
type phase uint8

const (
	unknown phase = iota
	isHeld
	isDoubted
	isUncertain
	isCutting
	isGone
)

const (
	tick = time.Second
	now  = time.Hour // for package standing, which has no relative times
)

func ticks(n int8) time.Duration { return time.Duration(n) * tick }

// step tells the state machine, dvold's and the guard's, what has happened, and
// does what it says, except for the cut, which has steps of its own.
func (w *World) step(s *state, e standing.Event) {
	if s.a.phase == unknown {
		return
	}
	v, act := standing.Step(w.standing(&s.a), e, now)
	s.a.stand(v)
	if act == standing.Reboot {
		s.powerOff()
	}
}

// standing returns how A stands to the volume.
func (w *World) standing(a *owner) standing.State {
	s := standing.New(w.Policy, ticks(w.ttl(a.under)), ticks(w.F), now+ticks(a.due))
	s.Ended = a.ended
	switch a.phase {
	case isDoubted:
		s.Phase = standing.Doubt
	case isUncertain:
		s.Phase = standing.Uncertain
	case isCutting:
		s.Phase, s.CutBy = standing.Cutting, now+ticks(a.cutBy)
		if w.Policy == standing.Keep {
			s.CutBy = standing.Never
		}
	case isGone:
		s.Phase = standing.Gone
	}
	return s
}

// stand sets how A stands to the volume.
func (a *owner) stand(s standing.State) {
	a.ended, a.due = s.Ended, int8((s.Deadline-now)/tick)
	switch s.Phase {
	case standing.Held:
		a.phase = isHeld
	case standing.Doubt:
		a.phase = isDoubted
	case standing.Uncertain:
		a.phase = isUncertain
	case standing.Cutting:
		a.phase = isCutting
		if s.CutBy != standing.Never {
			a.cutBy = int8((s.CutBy - now) / tick)
		}
	case standing.Gone:
		a.phase = isGone
	}
}
