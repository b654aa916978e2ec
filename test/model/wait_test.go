package model

import (
	"testing"

	"github.com/dvol/dvold/internal/standing"
)

// never stands for a wait that no length of makes safe.
const never = -1

// TestLeastWait has how long a taker must wait after it found A's key free, with a TTL of 4
// ticks, clocks of one speed, and F of 1, 2 and 4. Server is when Consul ends a
// session, which it promises after TTL and does after 2 TTL.
func TestLeastWait(t *testing.T) {
	for _, c := range []struct {
		what   string
		with   func(*World, *Rules)
		server int8
		want   [3]int8 // for each F
	}{
		{"nothing but the TTL ends sessions", func(w *World, r *Rules) {}, 8, [3]int8{0, 0, 0}},
		{"nothing but the TTL ends sessions", func(w *World, r *Rules) {}, 4, [3]int8{1, 2, 4}},
		{"and leases count from the answer", func(w *World, r *Rules) { r.FromSending = false }, 8, [3]int8{0, 1, 3}},
		{"and leases count from the answer", func(w *World, r *Rules) { r.FromSending = false }, 4, [3]int8{4, 5, 7}},
		{"and late answers revive them", func(w *World, r *Rules) { r.FromSending, r.NeverRevived = false, false }, 8, [3]int8{never, never, never}},
		{"and a deposed leader goes on for 2 ticks", func(w *World, r *Rules) { w.Deposed = 2 }, 8, [3]int8{0, 0, 0}},
		{"sessions end at any time", func(w *World, r *Rules) { w.Early = true }, 8, [3]int8{5, 6, 8}},
		{"and a deposed leader goes on for 2 ticks", func(w *World, r *Rules) { w.Early, w.Deposed = true, 2 }, 8, [3]int8{6, 7, 9}},
		{"and a leader that was frozen renews once more", func(w *World, r *Rules) { w.Early, w.Frozen = true, true }, 8, [3]int8{8, 9, 11}},
		{"but answers after TTL/2 of silence are confirmed", func(w *World, r *Rules) { w.Early, w.Frozen, r.Confirm = true, true, InDoubt }, 8, [3]int8{6, 7, 9}},
		{"but all answers are confirmed", func(w *World, r *Rules) { w.Early, w.Frozen, r.Confirm = true, true, Always }, 8, [3]int8{5, 6, 8}},
		{"and takers fence", func(w *World, r *Rules) { w.Early, w.Frozen, w.Fence = true, true, true }, 8, [3]int8{0, 0, 0}},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			for i, f := range []int8{1, 2, 4} {
				w := World{Policy: standing.Cut, Takers: 1, Epochs: 2, TTL: 4, F: f, Slow: true, Server: c.server, Stays: 1}
				r := AllRules()
				r.WaitTTL, r.WaitF, r.WaitDrift, r.Confirm = false, false, false, Unconfirmed
				c.with(&w, &r)
				if w.ExtraWait = c.want[i]; w.ExtraWait == never {
					w.ExtraWait = 2*w.TTL + 1
				} else if got := Search(w, r, Sound); got.Broken != Sound {
					t.Errorf("F %d: with a wait of %d: %v", f, w.ExtraWait, got)
				}
				if w.ExtraWait--; w.ExtraWait >= 0 && Search(w, r, Sound).Broken == Sound {
					t.Errorf("F %d: with a wait of %d: nothing is found", f, w.ExtraWait)
				}
			}
		})
	}
}
