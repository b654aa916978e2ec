package model

import (
	"testing"

	"github.com/dvol/dvold/internal/standing"
)

// leased is a pool without a fence, and A cuts itself off.
func leased() World {
	return World{Policy: standing.Cut, Takers: 1, Epochs: 3, TTL: 2, F: 1, Drift: 1, Skew: 1, Early: true, Stays: 2, Faults: 2}
}

// fenced is a pool with a fence, and A goes on.
func fenced() World {
	return World{Policy: standing.Keep, Fence: true, Address: true, Takers: 1, Epochs: 3, TTL: 1, F: 1, Early: true, Stays: 2, Faults: 2}
}

// With all rules nothing is violated, and there is always a way on.
func TestRulesHold(t *testing.T) {
	for name, c := range map[string]struct {
		world World
		with  func(*World, *Rules)
	}{
		"lease":                                  {leased(), func(w *World, r *Rules) {}},
		"lease, the wait before the intent":      {leased(), func(w *World, r *Rules) { w.Faults, r.IntendsFirst = 1, false }},
		"lease, slow answers, a frozen leader":   {leased(), func(w *World, r *Rules) { w.Slow, w.Frozen, w.Faults = true, true, 1 }},
		"lease, sessions end by their TTL alone": {leased(), func(w *World, r *Rules) { w.Early, w.Server, w.Slow, w.Faults = false, 4, true, 1 }},
		"lease, another TTL after a restart":     {leased(), func(w *World, r *Rules) { w.LongerTTL, w.Faults = 1, 1 }},
		"lease, A comes back twice":              {leased(), func(w *World, r *Rules) { w.Stays, w.Faults, w.Epochs = 3, 1, 2 }},
		"lease, two takers":                      {leased(), func(w *World, r *Rules) { w.Takers, w.Epochs = 2, 2 }},
		"lease, two takers, the wait first":      {leased(), func(w *World, r *Rules) { w.Takers, w.Epochs, w.Faults, r.IntendsFirst = 2, 2, 1, false }},
		"fence":                                  {fenced(), func(w *World, r *Rules) {}},
		"fence, A cuts":                          {fenced(), func(w *World, r *Rules) { w.Policy, w.MountWrites, w.Faults = standing.Cut, true, 1 }},
		"fence, A is paused":                     {fenced(), func(w *World, r *Rules) { w.Pauses, w.MountWrites, w.Epochs = true, true, 2 }},
		"fence of one client":                    {fenced(), func(w *World, r *Rules) { w.Address, w.Faults = false, 1 }},
		"fence of a client that connects first":  {fenced(), func(w *World, r *Rules) { w.Address, w.Connect, w.Epochs = false, true, 2 }},
		"fence of one that connects, and pauses": {fenced(), func(w *World, r *Rules) {
			w.Address, w.Connect, w.Pauses, w.MountWrites, w.Epochs, w.Faults = false, true, true, true, 2, 1
		}},
		"fence, A comes back twice":              {fenced(), func(w *World, r *Rules) { w.Stays, w.Faults = 3, 1 }},
		"fence, two takers":                      {fenced(), func(w *World, r *Rules) { w.Takers, w.Epochs = 2, 2 }},
		"fence, takers without a session":        {fenced(), func(w *World, r *Rules) { w.Takers, w.Stall, w.Epochs, w.Faults = 2, true, 2, 1 }},
		"fence that cuts off another volume too": {fenced(), func(w *World, r *Rules) { w.Neighbour, w.Faults, w.Epochs = true, 1, 2 }},
		"fence, and nobody wants this volume":    {fenced(), func(w *World, r *Rules) { w.Neighbour, w.Takers = true, 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := AllRules()
			c.with(&c.world, &r)
			got := Search(c.world, r, Sound)
			t.Log(got)
			if got.Broken != Sound {
				t.Errorf("got %v", got.Broken)
			}
		})
	}
}

// Under Keep, without a fence, only a person can tell: nobody takes the volume
// over, and so a crash for good is the end of it.
func TestKeepWithoutAFenceIsForAnOperator(t *testing.T) {
	w := leased()
	w.Policy = standing.Keep
	got := Search(w, AllRules(), Sound)
	t.Log(got)
	if got.Broken != DeadEnd {
		t.Errorf("got %v, want %v", got.Broken, DeadEnd)
	}
	for _, step := range got.Trace {
		if step == "B takes the volume" {
			t.Error("it was taken over")
		}
	}
}

// "From a kill: 2 TTL until Consul ends the session, then W"; with a fence, no
// wait but for the former, or for a hint.
func TestTakeoverTakesAsLongAsItSays(t *testing.T) {
	w := World{Policy: standing.Cut, Takers: 1, Epochs: 2, TTL: 4, F: 2, Drift: 1, Server: 8, Stays: 1}
	if got, want := Fastest(w, AllRules()), 8+(4+2+1); got != want {
		t.Errorf("by lease: %d ticks, want %d", got, want)
	}
	w.Early = true
	if got, want := Fastest(w, AllRules()), 4+2+1; got != want {
		t.Errorf("by lease, the session destroyed at once: %d ticks, want %d", got, want)
	}
	w.Early, w.Fence = false, true
	if got := Fastest(w, AllRules()); got != 0 {
		t.Errorf("with a fence and a hint: %d ticks, want 0", got)
	}
}
