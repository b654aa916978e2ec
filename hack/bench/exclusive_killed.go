package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// What is measured of a host that is killed: Consul first.
const (
	failureSeen  = "kill -9 of all of a host, until Consul's check of it is critical"
	sessionEnded = "kill -9 of all of a host, until Consul ends its session"
	takenFenced  = "kill -9 of all of a host, until another has written durably, pool with a fence"
	takenLeased  = "kill -9 of all of a host, until another has written durably, by lease alone"
)

// What a takeover may take. By lease that is the owner's last renewal, which
// Consul believes in for twice the TTL, then the wait of docs/takeover.md, TTL +
// F + drift, and two seconds for all else.
const (
	maxFenced = 10 * time.Second
	drift     = time.Second + exclusiveTTL/10
	maxLeased = 3*exclusiveTTL + cutTime + drift + 2*time.Second
)

// victim is an exclusive volume of the host that is killed, and a container that
// writes to it.
type victim struct{ pool, name, taken string }

// kills kills as many hosts as the options have it, each in a cluster of its
// own.
func (on scene) kills(ctx context.Context, o options) (series, error) {
	s := series{}
	for done := 0; done < o.kills; done += on.atOnce {
		some := make([]series, min(on.atOnce, o.kills-done))
		if err := all(len(some), func(i int) (err error) {
			some[i], err = on.measure(ctx, o, fmt.Sprintf("kill %d of %d", done+i+1, o.kills), (*exclusiveBench).killed)
			return err
		}); err != nil {
			return nil, err
		}
		for _, one := range some {
			for what, took := range one {
				s[what] = append(s[what], took...)
			}
		}
	}
	return s, nil
}

// killFact says what kills does.
func (on scene) killFact(o options) string {
	return fmt.Sprintf("%d kills, each in a cluster of its own, %d of them at once", o.kills, min(on.atOnce, o.kills))
}

// killed kills h1 while it writes to a volume in either pool. Containers for them
// are started on h2 at the same moment.
func (b *exclusiveBench) killed() error {
	h1, h2 := b.hosts[0], b.hosts[1]
	victims := b.scene.victims
	for _, v := range victims {
		if err := b.prepare(v); err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
	}
	for _, v := range victims {
		if _, err := b.writes(v, h1); err != nil {
			return err
		}
	}
	var takeNative func() (time.Duration, error)
	if b.scene.native != nil {
		var err error
		if takeNative, err = b.scene.native(b); err != nil {
			return err
		}
	}
	at := lab.SinceBoot()
	if err := h1.Kill(); err != nil {
		return err
	}
	var mu sync.Mutex // guards b.s
	sample := func(what string, wait func() (time.Duration, error)) func() error {
		return func() error {
			then, err := wait()
			mu.Lock()
			defer mu.Unlock()
			b.s[what] = append(b.s[what], then-at)
			return err
		}
	}
	waits := []func() error{
		sample(failureSeen, func() (time.Duration, error) {
			return b.reached(func(ctx context.Context) error { return h2.consul.failed(ctx, h1.Name()) })
		}),
		sample(sessionEnded, func() (time.Duration, error) {
			return b.reached(func(ctx context.Context) error { return h2.consul.sessionless(ctx, "dvol-"+h1.Name()) })
		}),
	}
	for _, v := range victims {
		waits = append(waits, sample(v.taken, func() (time.Duration, error) { return b.takeOver(v, h2) }))
	}
	if takeNative != nil {
		waits = append(waits, sample(takenNative, takeNative))
	}
	if err := all(len(waits), func(i int) error { return waits[i]() }); err != nil {
		return err
	}
	for _, v := range victims {
		if err := b.oneWriter(v); err != nil {
			return err
		}
	}
	return nil
}

// prepare has h1 write to a new volume, and makes a container on h2 that will.
func (b *exclusiveBench) prepare(v victim) error {
	h1 := b.hosts[0]
	if err := h1.dvol.createAs(b.ctx, v.name, map[string]string{"pool": v.pool, "access": "exclusive"}); err != nil {
		return err
	}
	for _, h := range b.hosts {
		if err := h.container(b.ctx, v.name, "beat", "-host", h.Name(), "/data/beats", "50ms"); err != nil {
			return err
		}
	}
	return h1.docker.start(b.ctx, v.name)
}

// takeOver has h2 start the container of a volume, again and again until it
// does, and returns when it had written durably.
func (b *exclusiveBench) takeOver(v victim, h2 writer) (time.Duration, error) {
	if err := b.until(2*maxLeased, func(ctx context.Context) error { return h2.docker.start(ctx, v.name) }); err != nil {
		return 0, fmt.Errorf("%s: %w", v.name, err)
	}
	return b.writes(v, h2)
}

// writes waits until a host has written to a volume, and returns when.
func (b *exclusiveBench) writes(v victim, h writer) (at time.Duration, err error) {
	err = b.until(20*time.Second, func(context.Context) (err error) {
		at, err = b.durable(v, h)
		return err
	})
	return at, err
}

// reached returns when look found no error.
func (b *exclusiveBench) reached(look func(context.Context) error) (time.Duration, error) {
	err := b.until(2*maxLeased, look)
	return lab.SinceBoot(), err
}

// durable is when a host's first beat had reached a volume: not later than the
// second was begun.
func (b *exclusiveBench) durable(v victim, h writer) (time.Duration, error) {
	beats, err := b.beats(v, h)
	if err != nil {
		return 0, err
	}
	for _, beat := range beats {
		if beat.Host == h.Name() && beat.Seq > 1 {
			return beat.At, nil
		}
	}
	return 0, fmt.Errorf("%s has not written to %s", h.Name(), v.name)
}

// beats are those that have reached a volume.
func (b *exclusiveBench) beats(v victim, h writer) ([]lab.Beat, error) {
	text, err := b.scene.text(b, v, h)
	if err != nil {
		return nil, err
	}
	beats, err := lab.ParseBeats(text)
	if err != nil {
		err = fmt.Errorf("%s: %w", v.name, err)
	}
	return beats, err
}

// oneWriter makes sure that what was measured was a takeover: nothing that h1
// wrote came after what h2 did.
func (b *exclusiveBench) oneWriter(v victim) error {
	beats, err := b.beats(v, b.hosts[1])
	if err != nil {
		return err
	}
	taken := false
	for _, beat := range beats {
		if taken && beat.Host == b.hosts[0].Name() {
			return fmt.Errorf("%s: two hosts wrote at once", v.name)
		}
		taken = taken || beat.Host == b.hosts[1].Name()
	}
	return nil
}

func killedRows(s series) []row {
	fast, slow := s.row(takenFenced, failureSeen), s.row(takenLeased, sessionEnded)
	fast.Most, fast.Why = maxFenced, "Consul's detection + fence + start"
	slow.Most, slow.Why = maxLeased, "3 lease_ttl + cut_time + drift + 2s"
	return []row{fast, slow}
}
