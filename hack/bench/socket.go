package main

import (
	"context"
	"fmt"
	"time"
)

// Baselines and what is measured beside them.
const (
	roundTrip   = "Plugin.Activate, an answer that never changes"
	pairOnly    = "bind mount + umount, two system calls"
	syncOnly    = "write and fsync of 4 KiB"
	pairAndSync = "bind mount + umount + fsync of 4 KiB"
)

const (
	startEmpty = "start of dvold until it answers, no volumes"
	startFull  = "start of dvold until it answers, 10,000 volumes, 1,000 of them mounted"
)

const (
	many    = 10_000 // volumes
	mounted = 1_000  // of them, for some of the measures
)

// socketBench measures dvold alone, over its plugin socket.
type socketBench struct {
	ctx    context.Context
	daemon *daemon
	dvol   plugin
	bare   *bare
	starts series
	made   int // volumes so far
	results
}

// socketStage measures d, which it starts.
func socketStage(ctx context.Context, d *daemon, stateDir string) (results, error) {
	bare, err := newBare(stateDir)
	if err != nil {
		return results{}, err
	}
	b := &socketBench{ctx: ctx, daemon: d, dvol: d.dvol, bare: bare, starts: series{}}
	if err := d.start(ctx); err != nil {
		return results{}, err
	}
	for _, step := range []func() error{
		func() error { return b.daemon.restarts(ctx, startEmpty, b.starts) },
		func() error { return b.createUpTo(1) },
		b.gets,
		func() error { return b.lists("1 volume", 500, 0) },
		b.creates,
		func() error { return b.mounts("") },
		func() error {
			return b.besideSleepers(func() error { return b.mounts(", 200 other mount namespaces") })
		},
		func() error { return b.createUpTo(1_000) },
		func() error { return b.lists("1,000 volumes", 200, 10*time.Millisecond) },
		func() error { return b.createUpTo(many) },
		func() error { return b.lists("10,000 volumes", 100, 0) },
		func() error { return b.memory("10,000 volumes, listed", maxRSS) },
		func() error {
			return b.besideSleepers(func() error {
				if err := b.mountSome(); err != nil {
					return err
				}
				return b.mounts(", 1,000 others mounted, 200 other mount namespaces")
			})
		},
		func() error { return b.mounts(", 1,000 others mounted") },
		func() error { return b.lists("10,000 volumes, 1,000 mounted", 50, 0) },
		func() error { return b.memory("10,000 volumes, listed, 1,000 of them mounted", maxRSS) },
		b.restarts,
		func() error { return b.memory("the same after a restart", 0) },
		b.daemon.stop,
	} {
		if err := step(); err != nil {
			return b.results, err
		}
	}
	return b.results, nil
}

func volumeName(n int) string { return fmt.Sprintf("volume-%05d", n) }

// createUpTo creates volumes until there are n.
func (b *socketBench) createUpTo(n int) error {
	for ; b.made < n; b.made++ {
		if err := b.dvol.create(b.ctx, volumeName(b.made)); err != nil {
			return err
		}
	}
	return nil
}

// mountSome mounts volumes, and none of those that mounts uses.
func (b *socketBench) mountSome() error {
	for n := range mounted {
		if err := b.dvol.mount(b.ctx, volumeName(many-1-n), mountID(n)); err != nil {
			return err
		}
	}
	return nil
}

func (b *socketBench) gets() error {
	const known, unknown = "Get", "Get of an unknown volume"
	s := series{}
	err := interleave(1000, s,
		step{roundTrip, func() error { return b.dvol.activate(b.ctx) }},
		step{known, func() error { return b.dvol.get(b.ctx, volumeName(0)) }},
		step{unknown, func() error { return b.dvol.getUnknown(b.ctx, "unknown") }})
	get, not := s.row(known, roundTrip), s.row(unknown, roundTrip)
	get.Under, not.Under = time.Millisecond, time.Millisecond
	b.Rows = append(b.Rows, row{What: roundTrip, Took: s[roundTrip]}, get, not)
	return err
}

func (b *socketBench) lists(volumes string, rounds int, under time.Duration) error {
	what := "List, " + volumes
	s := series{}
	err := interleave(rounds, s,
		step{roundTrip, func() error { return b.dvol.activate(b.ctx) }},
		step{what, func() error { return b.dvol.list(b.ctx) }})
	r := s.row(what, roundTrip)
	r.Under = under
	b.Rows = append(b.Rows, r)
	return err
}

func (b *socketBench) creates() error {
	const create, remove, name = "Create", "Remove", "passing"
	s := series{}
	for range 200 {
		// A removal needs a creation before it: these don't take turns.
		if err := s.time(syncOnly, b.bare.sync); err != nil {
			return err
		}
		if err := s.time(create, func() error { return b.dvol.create(b.ctx, name) }); err != nil {
			return err
		}
		if err := s.time(remove, func() error { return b.dvol.remove(b.ctx, name) }); err != nil {
			return err
		}
	}
	b.Rows = append(b.Rows, s.row(create, syncOnly), s.row(remove, syncOnly))
	return nil
}

// mounts measures Mount and Unmount of a volume that nobody else uses and of
// one that is mounted all the time.
func (b *socketBench) mounts(beside string) error {
	first, second := "Mount + Unmount, only use"+beside, "Mount + Unmount, second use"+beside
	alone, shared := volumeName(0), "shared"
	if err := b.dvol.create(b.ctx, shared); err != nil { // succeeds if it exists
		return err
	}
	if err := b.dvol.mount(b.ctx, shared, mountID(many)); err != nil {
		return err
	}
	s := series{}
	err := interleave(200, s,
		step{syncOnly, b.bare.sync},
		step{pairOnly, b.bare.pair},
		step{pairAndSync, b.bare.pairAndSync},
		step{first, func() error { return b.dvol.use(b.ctx, alone, mountID(many+1)) }},
		step{second, func() error { return b.dvol.use(b.ctx, shared, mountID(many+1)) }})
	if err != nil {
		return err
	}
	if beside == "" {
		b.Rows = append(b.Rows, row{What: syncOnly, Took: s[syncOnly]}, row{What: pairOnly, Took: s[pairOnly]})
	}
	alike := s.row(first, pairAndSync)
	alike.Within = 3
	b.Rows = append(b.Rows, alike, s.row(second, pairAndSync))
	return b.dvol.unmount(b.ctx, shared, mountID(many))
}

// besideSleepers runs fn while there are processes in other mount namespaces,
// which have as many mounts as the host had before fn, about those of a
// container.
func (b *socketBench) besideSleepers(fn func() error) error {
	s, err := startSleepers(200)
	if err != nil {
		return err
	}
	if err := fn(); err != nil {
		s.stop()
		return err
	}
	return s.stop()
}

// restarts starts dvold again with all that there is.
func (b *socketBench) restarts() error {
	err := b.daemon.restarts(b.ctx, startFull, b.starts)
	b.Rows = append(b.Rows, b.starts.row(startFull, startEmpty))
	return err
}

func (b *socketBench) memory(what string, under int) error {
	s, err := sizeOf(b.daemon.cmd.Process.Pid, what)
	s.Under = under
	b.Sizes = append(b.Sizes, s)
	return err
}

// step is something to be measured that depends on no other.
type step struct {
	what string
	do   func() error
}

// interleave measures all steps in turn, rounds times.
func interleave(rounds int, s series, steps ...step) error {
	for i := range rounds {
		for _, step := range inTurn(i, steps...) {
			if err := s.time(step.what, step.do); err != nil {
				return fmt.Errorf("%s: %w", step.what, err)
			}
		}
	}
	return nil
}
