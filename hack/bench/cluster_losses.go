package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// losses measures how long it takes until something can be changed again after
// Consul's leader was killed, and Get meanwhile.
func (b *clusterBench) losses() error {
	const create, put = "Create succeeds again, after kill -9 of Consul's leader", "KV PUT succeeds again, same agent"
	const before, during = "Get, all is well", "Get, while Create fails"
	h := b.host(1)
	s := series{}
	for n := range 3 {
		for range 50 {
			if err := s.time(before, func() error { return h.dvol.get(b.ctx, "known") }); err != nil {
				return err
			}
		}
		leader, err := b.lab.Leader(b.ctx)
		if err != nil {
			return err
		}
		if err := leader.Consul.Kill(); err != nil {
			return err
		}
		ctx, created := context.WithCancel(b.ctx)
		puts, creates, gets := series{}, series{}, series{}
		err = all(3, func(i int) error {
			switch i {
			case 0:
				return puts.time(put, func() error {
					return b.succeeds(func(ctx context.Context) error { return h.consul.put(ctx, "bench/lost") })
				})
			case 1:
				defer created()
				return creates.time(create, func() error {
					return b.succeeds(func(ctx context.Context) error { return h.dvol.create(ctx, fmt.Sprintf("lost-%d", n)) })
				})
			}
			for ctx.Err() == nil {
				if err := gets.time(during, func() error { return h.dvol.get(b.ctx, "known") }); err != nil {
					return fmt.Errorf("%s: %w", during, err)
				}
				pause(ctx, 10*time.Millisecond)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for what, took := range map[string]series{put: puts, create: creates, during: gets} {
			s[what] = append(s[what], took[what]...)
		}
		if err := leader.Consul.Start(b.ctx); err != nil {
			return err
		}
		if err := b.succeeds(b.healthy); err != nil {
			return err
		}
	}
	b.Rows = append(b.Rows, s.row(create, put), s.row(during, before))
	b.Figures = append(b.Figures, figure{What: "slowest " + during, Value: percentile(s[during], 100).Seconds() * 1000, Unit: "ms"})
	return nil
}

// healthy returns nil once all servers follow the leader closely.
func (b *clusterBench) healthy(ctx context.Context) error {
	return b.host(1).consul.do(ctx, http.MethodGet, "/v1/operator/autopilot/health", nil)
}

// succeeds attempts something until it succeeds.
func (b *clusterBench) succeeds(attempt func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	for {
		err := attempt(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		pause(ctx, 10*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
