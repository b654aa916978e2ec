package consul

import (
	"math/rand/v2"
	"testing"
	"time"
)

const s = time.Second

func TestLease(t *testing.T) {
	type step struct {
		sent, answered time.Duration // of a renewal, if answered is not 0
		now            time.Duration
		left           time.Duration
	}
	for name, steps := range map[string][]step{
		"nothing heard": {{now: 0, left: 10*s - margin}, {now: 4 * s, left: 6*s - margin}, {now: 5 * s, left: 5*s - margin},
			{now: 10*s - margin, left: 0}},
		"counted from the sending": {{sent: 2 * s, answered: 4 * s, now: 4 * s, left: 8*s - margin}},
		"answers out of order":     {{sent: 4 * s, answered: 5 * s, now: 5 * s, left: 9*s - margin}, {sent: 2 * s, answered: 6 * s, now: 6 * s, left: 8*s - margin}},
		"answered at the end":      {{sent: 2 * s, answered: 10*s - margin, now: 10*s - margin, left: 0}},
		"never revived": {{now: 10 * s, left: 0}, {sent: 11 * s, answered: 11 * s, now: 11 * s, left: 0},
			{now: 1 * s, left: 0}},
	} {
		t.Run(name, func(t *testing.T) {
			l := lease{ttl: 10 * s}
			for i, step := range steps {
				if step.answered != 0 {
					if got, want := l.renew(step.sent, step.answered), step.left > 0; got != want {
						t.Errorf("step %d: renew: got %t, want %t", i, got, want)
					}
				}
				if got := l.left(step.now); got != step.left {
					t.Errorf("step %d: %v left, want %v", i, got, step.left)
				}
			}
		})
	}
}

// However late requests and answers are, and whatever is lost, the lease is
// over before a server that heard of the renewals ends the session, even one
// that waits for one TTL alone.
func TestLeaseEndsBeforeTheServersDoes(t *testing.T) {
	const ttl = 10 * s
	ended := 0
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 0))
		delay := func() time.Duration { return time.Duration(random.Int64N(int64(4 * s))) }
		l := lease{ttl: ttl}
		server := delay() // when it heard of the session
		for now := server; now < 200*s; {
			sent := now
			heard := sent + delay()
			now = heard + delay()
			if random.IntN(4) == 0 { // lost on the way there
				now = sent + 2*s
			} else {
				if heard >= server+ttl {
					if l.left(heard) != 0 {
						t.Fatalf("seed %d: believed in at %v, though the server ended it at %v", seed, heard, server+ttl)
					}
					ended++
					break
				}
				server = max(server, heard)
				if random.IntN(4) != 0 { // not lost on the way back
					l.renew(sent, now)
				}
			}
			if future := l; future.left(server+ttl) != 0 {
				t.Fatalf("seed %d: would be believed in at %v, when the server ends it", seed, server+ttl)
			}
			if l.left(now) == 0 {
				ended++
				break
			}
		}
	}
	if ended == 0 {
		t.Error("no session ended; this tests nothing")
	}
}
