package main

import "fmt"

// Creates at once.
const (
	callers = 8  // on each host
	calls   = 16 // by each caller, in each round
	rounds  = 3
)

// rates measures how many volumes all hosts together create in a second. All of
// them and Consul share the processors of this machine, so the first baseline is
// only of what a create waits for, and the second of all that it asks Consul.
func (b *clusterBench) rates() error {
	const create, write, ask = "create", "write", "ask"
	s := series{}
	for round := range rounds {
		for _, turn := range inTurn(round,
			step{write, func() error {
				return b.everywhere(func(h member, who string) error {
					return h.consul.transact(b.ctx, change{"set", "bench/rate/" + who, someValue})
				})
			}},
			step{ask, func() error {
				return b.everywhere(func(h member, who string) error {
					for range 3 {
						if err := h.consul.get(b.ctx, "bench/known"); err != nil {
							return err
						}
					}
					return h.consul.pair(b.ctx, "bench/rate/"+who)
				})
			}},
			step{create, func() error {
				return b.everywhere(func(h member, who string) error {
					return h.dvol.create(b.ctx, fmt.Sprintf("rate-%d-%s", round, who))
				})
			}},
		) {
			if err := s.time(turn.what, turn.do); err != nil {
				return err
			}
		}
	}
	perSecond := func(what string) float64 {
		const n = sharing * callers * calls
		return n / percentile(s[what], 50).Seconds()
	}
	what := fmt.Sprintf("volumes created by 3 hosts at once, %d callers on each", callers)
	for _, base := range []struct{ what, name string }{
		{write, "KV transactions, by as many callers"},
		{ask, "two KV transactions and three KV GETs, by as many callers"},
	} {
		b.Figures = append(b.Figures, figure{What: what, Value: perSecond(create), Unit: "/s", Baseline: base.name, Base: perSecond(base.what)})
	}
	return nil
}

// everywhere has all callers on all hosts make their calls at once.
func (b *clusterBench) everywhere(do func(h member, who string) error) error {
	return all(sharing*callers, func(i int) error {
		h := b.host(1 + i%sharing)
		for n := range calls {
			if err := do(h, fmt.Sprintf("%d-%d", i, n)); err != nil {
				return err
			}
		}
		return nil
	})
}
