package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// otherPool is a pool of dvold's beside that of the server: a directory of the guest.
const otherPool = "other"

// elsewhere is a volume in it.
const elsewhere = "elsewhere"

const (
	whileSilent   = ", another pool, while the server is silent and eight callers wait for it"
	whileAnswered = ", another pool, while it answers"
)

// silentMost is the target for the p99 of what needs no server.
const silentMost = 100 * time.Millisecond

// silence times calls that need nothing of a server that says nothing, while others wait for it.
func (b *nfsBench) silence() error {
	if err := b.dvol.createAs(b.ctx, elsewhere, map[string]string{"pool": otherPool}); err != nil {
		return err
	}
	if err := b.callElsewhere(whileAnswered); err != nil {
		return err
	}
	if err := b.server.Signal(unix.SIGSTOP); err != nil {
		return os.NewSyscallError("kill", err)
	}
	ctx, cancel := context.WithCancel(b.ctx)
	var waiting sync.WaitGroup
	for n := range 8 {
		waiting.Go(func() {
			for i := 0; ctx.Err() == nil; i++ { // all fail, or are given up
				_ = b.dvol.createAs(ctx, fmt.Sprintf("silent-%d-%d", n, i), nil)
				_ = b.dvol.use(ctx, volumeName(n), mountID(2*manyMounted+n))
			}
		})
	}
	pause(ctx, time.Second)
	err := b.callElsewhere(whileSilent)
	cancel()
	if thawed := b.server.Signal(unix.SIGCONT); err == nil {
		err = thawed
	}
	waiting.Wait()
	for _, what := range []string{"Get", "List", "Mount"} {
		r := b.s.row(what+whileSilent, what+whileAnswered)
		r.Mostly = silentMost
		b.Rows = append(b.Rows, r)
	}
	return err
}

// callElsewhere times calls of the other pool.
func (b *nfsBench) callElsewhere(when string) error {
	id := mountID(3 * manyMounted)
	for range 200 {
		for _, c := range []struct {
			what string
			call func() error
		}{
			{"Get", func() error { return b.dvol.get(b.ctx, elsewhere) }},
			{"List", func() error { return b.dvol.list(b.ctx) }},
			{"Mount", func() error { return b.dvol.mount(b.ctx, elsewhere, id) }},
		} {
			if err := b.s.time(c.what+when, c.call); err != nil {
				return fmt.Errorf("%s%s: %w", c.what, when, err)
			}
		}
		if err := b.dvol.unmount(b.ctx, elsewhere, id); err != nil {
			return err
		}
	}
	return nil
}
