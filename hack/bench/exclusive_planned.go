package main

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// What is measured of a planned hand-over, and of mounts. Each has a baseline: the
// same of a shared volume.
const (
	handedOver  = "Unmount on one host, then Mount on the other, "
	handedTo    = "Unmount on one host, until Mount is answered, which waits on the other"
	containerTo = "engine: stop of a container on one host, start of one on the other, "
	mountPair   = "Mount + Unmount, only use, "
)

const (
	ofExclusive = "exclusive volume"
	ofShared    = "shared volume"
)

// maxHandOver is the target for dvold's own share of a hand-over.
const maxHandOver = 500 * time.Millisecond

// accesses are the options of the volumes that are compared. They lie in the
// same pool.
var accesses = [...]struct{ of, name, access string }{
	{ofShared, "shared", "shared"},
	{ofExclusive, "exclusive", "exclusive"},
}

// mounts measures mounts that no other host has to do with.
func (b *exclusiveBench) mounts() error {
	h := b.hosts[0]
	var steps []step
	for _, a := range accesses {
		if err := h.dvol.createAs(b.ctx, a.name, map[string]string{"pool": leased, "access": a.access}); err != nil {
			return err
		}
		steps = append(steps, step{mountPair + a.of, func() error { return h.dvol.use(b.ctx, a.name, mountID(1)) }})
	}
	return interleave(100, b.s, steps...)
}

// handOver measures how volumes go from one host to the other, and back.
func (b *exclusiveBench) handOver() error {
	for _, a := range accesses {
		if err := b.hosts[0].dvol.mount(b.ctx, a.name, mountID(1)); err != nil {
			return err
		}
	}
	for round := range 60 {
		from, to := b.hosts[round%2], b.hosts[1-round%2]
		for _, a := range inTurn(round, accesses[:]...) {
			if err := b.s.time(handedOver+a.of, func() error {
				if err := from.dvol.unmount(b.ctx, a.name, mountID(1)); err != nil {
					return err
				}
				return to.dvol.mount(b.ctx, a.name, mountID(1))
			}); err != nil {
				return err
			}
		}
	}
	for round := range 30 {
		if err := b.handTo(b.hosts[round%2], b.hosts[1-round%2], accesses[1].name); err != nil {
			return err
		}
	}
	for _, a := range accesses {
		if err := b.hosts[0].dvol.unmount(b.ctx, a.name, mountID(1)); err != nil {
			return err
		}
	}
	return b.containersMove()
}

// handTo measures a hand-over to a host that waits for the volume.
func (b *exclusiveBench) handTo(from, to writer, name string) error {
	got := make(chan error, 1)
	go func() { got <- to.dvol.mount(b.ctx, name, mountID(1)) }()
	if err := b.until(20*time.Second, func(ctx context.Context) error {
		requests, err := from.consul.keys(ctx, "dvol/records/requests/"+from.Name()+"/", consistent)
		if err == nil && len(requests) == 0 {
			err = fmt.Errorf("%s does not ask %s for the volume", to.Name(), from.Name())
		}
		return err
	}); err != nil {
		return err
	}
	return b.s.time(handedTo, func() error {
		if err := from.dvol.unmount(b.ctx, name, mountID(1)); err != nil {
			return err
		}
		return <-got
	})
}

// containersMove measures the same with containers that are there already.
func (b *exclusiveBench) containersMove() error {
	for _, h := range b.hosts {
		for _, a := range accesses {
			if err := h.container(b.ctx, a.name, "sleep", "1000"); err != nil {
				return err
			}
		}
	}
	for _, a := range accesses {
		if err := b.hosts[0].docker.start(b.ctx, a.name); err != nil {
			return err
		}
	}
	for round := range 20 {
		from, to := b.hosts[round%2], b.hosts[1-round%2]
		for _, a := range inTurn(round, accesses[:]...) {
			if err := b.s.time(containerTo+a.of, func() error {
				if err := from.docker.stop(b.ctx, a.name); err != nil {
					return err
				}
				return to.docker.start(b.ctx, a.name)
			}); err != nil {
				return err
			}
		}
	}
	for _, a := range accesses {
		if err := b.hosts[0].docker.stop(b.ctx, a.name); err != nil {
			return err
		}
	}
	return nil
}

// container makes a container that has the volume of its name.
func (h writer) container(ctx context.Context, name string, argv ...string) error {
	if err := h.docker.create(ctx, "dvol", name); err != nil { // it exists; the engine now knows whose it is
		return err
	}
	return h.docker.createContainer(ctx, name, name, argv...)
}

// until looks again and again until there is no error, and returns the last one
// if that takes too long.
func (b *exclusiveBench) until(limit time.Duration, look func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	var last error
	for {
		err := look(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return cmp.Or(last, err)
		}
		last = err
		pause(ctx, 20*time.Millisecond)
	}
}

func handOverRows(s series) []row {
	over, to := s.row(handedOver+ofExclusive, handedOver+ofShared), s.row(handedTo, handedOver+ofShared)
	over.Under, to.Under = maxHandOver, maxHandOver
	return []row{
		s.row(mountPair+ofExclusive, mountPair+ofShared), over, to,
		s.row(containerTo+ofExclusive, containerTo+ofShared),
	}
}
