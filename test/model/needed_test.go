package model

import (
	"testing"

	"github.com/dvol/dvold/internal/standing"
)

// TestEachRuleIsNeeded: without any one rule the search finds what it is there to prevent. The names
// are the sections of docs/takeover.md, and what is done against them.
func TestEachRuleIsNeeded(t *testing.T) {
	for name, c := range map[string]struct {
		world  World
		want   Violation
		breaks func(*World, *Rules)
	}{
		"Words: a lease is counted from the answer": {leased(), TwoWriters, func(w *World, r *Rules) {
			w.Slow, r.FromSending = true, false
		}},
		"The owner's side: a late answer revives a lease": {leased(), TwoWriters, func(w *World, r *Rules) {
			// With a renewal that nothing confirms; a longer wait does not help, as below.
			w.Slow, w.Frozen, w.ExtraWait, r.Confirm = true, true, w.TTL, Unconfirmed
			w.Faults, r.NeverRevived = 0, false
		}},
		"The guard: there is none":                         {leased(), TwoWriters, func(w *World, r *Rules) { r.Guarded = false }},
		"Cut: no sync, and what is dirty is written later": {leased(), TwoWriters, func(w *World, r *Rules) { r.Synced = false }},
		"A mount: answered without a look at the lease":    {leased(), TwoWriters, func(w *World, r *Rules) { r.Checked = false }},
		"A mount: before the record names its client": {fenced(), TwoWriters, func(w *World, r *Rules) {
			w.Address, w.Connect, r.NamedFirst = false, true, false
		}},
		"A mount: its client is written over whatever is in the record": {fenced(), TwoWriters, func(w *World, r *Rules) {
			w.Address, w.Connect, r.NamedInOrder = false, true, false
		}},
		"release: made before nothing is left": {leased(), TwoWriters, func(w *World, r *Rules) { r.ReleasedIsGone = false }},
		"re-adopt: under the terms of an earlier configuration": {leased(), TwoWriters, func(w *World, r *Rules) {
			w.LongerTTL, r.TermsKept = 1, false
		}},
		"re-adopt: with the identity of the new stay": {fenced(), TwoWriters, func(w *World, r *Rules) {
			w.Address, r.IdentityKept = false, false
		}},
		"re-adopt: in spite of a proof": {fenced(), CutOffOwner, func(w *World, r *Rules) {
			w.Neighbour, r.NoProof = true, false
		}},

		"Slow: no wait": {leased(), TwoWriters, func(w *World, r *Rules) {
			r.WaitTTL, r.WaitF, r.WaitDrift = false, false, false
		}},
		"Slow: a wait without TTL":   {leased(), TwoWriters, func(w *World, r *Rules) { r.WaitTTL = false }},
		"Slow: a wait without F":     {leased(), TwoWriters, func(w *World, r *Rules) { r.WaitF = false }},
		"Slow: a wait without drift": {leased(), TwoWriters, func(w *World, r *Rules) { r.WaitDrift = false }},
		"Slow: a wait counted from the question": {leased(), TwoWriters, func(w *World, r *Rules) {
			w.SlowRead, r.WaitFromAnswer = 1, false
		}},
		"Slow: an owner with terms keep": {leased(), TwoWriters, func(w *World, r *Rules) {
			w.Policy, r.TermsAccept = standing.Keep, false
		}},
		"Slow: a deposed leader renews once more": {leased(), TwoWriters, func(w *World, r *Rules) {
			w.TTL, w.Epochs, w.Stays, w.Faults = 6, 2, 1, 0
			w.Slow, w.Frozen, r.Confirm = true, true, InDoubt
		}},

		"take: without a proof":                           {fenced(), TwoWriters, func(w *World, r *Rules) { r.Proven = false }},
		"take: with one of another domain":                {fenced(), TwoWriters, func(w *World, r *Rules) { w.Elsewhere, r.Covered = true, false }},
		"Fast: a fence that does nothing":                 {fenced(), TwoWriters, func(w *World, r *Rules) { r.FenceWorks = false }},
		"Fast: no intent before the fence, and A goes on": {fenced(), CutOffOwner, func(w *World, r *Rules) { r.Intended = false }},
		"Fast: no intent before the fence, and A re-adopts and un-fences": {fenced(), TwoWriters, func(w *World, r *Rules) {
			w.Faults, r.Intended, r.UndoesEarlier = 1, false, false // the latter alone is not found in so small a world
		}},
		"Fast: no fence record before a fence of more than the volume": {fenced(), CutOffOwner, func(w *World, r *Rules) {
			w.Neighbour, r.Recorded = true, false
		}},
		"Takeover: the old owner comes back and frees the volume, and the fence comes later": {fenced(), ForgottenFence, func(w *World, r *Rules) {
			r.ProvesItself = false
		}},
		"Takeover: the old owner comes back and owns the volume again, fenced": {fenced(), CutOffOwner, func(w *World, r *Rules) {
			r.ProvesItself, r.Recorded = false, false
		}},

		"Un-fencing: before the host is clean": {fenced(), TwoWriters, func(w *World, r *Rules) { r.CleanFirst = false }},
		"Un-fencing: it undoes a later fence": {fenced(), TwoWriters, func(w *World, r *Rules) {
			w.Epochs, w.Faults = 4, 1
			r.UndoesEarlier, r.UnfencedFirst = false, false
		}},
		"Un-fencing: it undoes a later fence, of a dvold that was killed": {fenced(), TwoWriters, func(w *World, r *Rules) {
			// That the host waits for its own call is not enough.
			w.Epochs, w.Stays, w.Faults = 4, 3, 1
			r.UndoesEarlier = false
		}},
		"Un-fencing: the host owns something anew before it": {fenced(), CutOffOwner, func(w *World, r *Rules) {
			r.UnfencedFirst = false
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := AllRules()
			c.breaks(&c.world, &r)
			got := Search(c.world, r, c.want)
			t.Log(got)
			if got.Broken != c.want {
				t.Errorf("got %v, want %v", got.Broken, c.want)
			}
		})
	}
}

// TestRulesThatStandInForEachOther: without one of them nothing happens.
func TestRulesThatStandInForEachOther(t *testing.T) {
	for name, c := range map[string]struct {
		world  World
		breaks []func(*World, *Rules)
	}{
		// The wait begins again when A is back, and a session that came later
		// prolongs no lease.
		"the key unchanged, the session's own lease": {leased(), []func(*World, *Rules){
			func(_ *World, r *Rules) { r.KeyUnchanged = false },
			func(_ *World, r *Rules) { r.OwnSession = false },
		}},
		// Each renewal is confirmed, and a lease that is over is not revived: then
		// the wait has to be a TTL longer.
		"confirmed, never revived": {leased(), []func(*World, *Rules){
			func(w *World, r *Rules) {
				w.Slow, w.Frozen, w.Faults, w.ExtraWait, r.Confirm = true, true, 0, w.TTL, Unconfirmed
			},
			func(w *World, r *Rules) { w.Slow, w.Frozen, w.Faults, r.NeverRevived = true, true, 0, false },
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.world.Faults, c.world.Epochs = 1, 2
			both, all := c.world, AllRules()
			for i, breaks := range c.breaks {
				w, r := c.world, AllRules()
				breaks(&w, &r)
				breaks(&both, &all)
				if got := Search(w, r, Sound); got.Broken != Sound {
					t.Errorf("without rule %d: %v", i, got)
				}
			}
			got := Search(both, all, TwoWriters)
			t.Log(got)
			if got.Broken != TwoWriters {
				t.Errorf("without both: %v, want %v", got.Broken, TwoWriters)
			}
		})
	}
}

// What no rule helps against, as the page says ("What is not safe by lease"): a
// fence does.
func TestWhatIsNotSafeByLease(t *testing.T) {
	for name, happens := range map[string]func(*World){
		"a machine is paused, with its guard and its clock": func(w *World) { w.Pauses = true },
		"a frozen dvold mounts, and that writes":            func(w *World) { w.MountWrites = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := leased()
			w.Faults = 1
			happens(&w)
			got := Search(w, AllRules(), TwoWriters)
			t.Log(got)
			if got.Broken != TwoWriters {
				t.Errorf("by lease: %v, want %v", got.Broken, TwoWriters)
			}
			w = fenced()
			w.Faults = 1
			happens(&w)
			if got := Search(w, AllRules(), Sound); got.Broken != Sound {
				t.Errorf("with a fence: %v", got)
			}
		})
	}
}

// Without these a volume may be out of use for longer than need be. No data is
// lost for it.
func TestRulesThatOnlyKeepVolumesInUse(t *testing.T) {
	for _, seek := range []Violation{TwoWriters, FalseProof} {
		t.Run(seek.String(), func(t *testing.T) {
			t.Parallel()
			w, r := fenced(), AllRules()
			w.Faults = 1
			r.ProvesItself, r.Recorded, r.UnfencedFirst, r.NoProof = false, false, false, false
			got := Search(w, r, seek)
			t.Log(got)
			if got.Broken != Sound {
				t.Errorf("got %v", got.Broken)
			}
		})
	}
}
