// Package cut makes this host stop writing to a volume, and verifies it.
//
// What is verified is that no byte of this host's former writers can reach the
// storage any more: whoever could write has ended, the volume is mounted in no
// mount namespace, and what was written before has been written or is lost for
// good. docs/takeover.md says when that is needed.
//
// Killed are processes that can write to the volume, and no others. A file
// system that others use too is neither shut down nor unmounted by force.
//
// Not noticed is what leaves no trace with a process, a mount table or a loop
// device, if the file system is not the volume's alone: an overlay whose upper
// directory is in the volume, but which is mounted where the volume is not; a
// descriptor in a message that waits in a socket. (Of a container in a container
// all end with the first process of the outer one, unless both are in the PID
// namespace of the host.)
//
// It needs root and Linux 5.12, and to see all processes of the machine.
package cut

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/dvol/dvold/internal/hang"
	"github.com/dvol/dvold/internal/host"
)

// ErrNotVerified means that something can still write to the volume, or may.
var ErrNotVerified = errors.New("not verified")

// Cutter cuts this host off from volumes. Its methods may be called
// concurrently; for one volume they wait for each other. Where the kernel hangs
// on a dead storage a goroutine is left behind: one for each volume and thing
// that can hang, however often that is tried.
type Cutter struct {
	Log     *slog.Logger
	Protect []host.Process // never killed, as is pid 1, this process, and engines with all that they run outside of containers

	calls       hang.Calls
	connections connections

	mu         sync.Mutex      // guards the field below
	unfinished map[string]*run // cuts that were not verified, by volume ID
}

// Report says what a cut did.
type Report struct {
	Killed    []Victim `json:"killed,omitempty"`
	Unmounted []string `json:"unmounted,omitempty"` // mountpoints; "pid 123: /rootfs/run/dvol/mnt/x" is one in the namespace of that process
	Blocked   string   `json:"blocked,omitempty"`   // what blocked the network to the storage: nftables or iptables
	ShutDown  []string `json:"shut_down,omitempty"` // file systems, by device
	Destroyed []string `json:"destroyed,omitempty"` // sockets to the storage
}

// Cut makes this host stop writing to v. It returns nil exactly if it is
// verified that nothing on this host can write to the volume any more, and that
// nothing written is still on its way. It goes on until then, or until ctx ends:
// the error, ErrNotVerified, then names what is in the way. It may be repeated.
// If nothing is mounted at the mountpoint, and v does not say what was, there is
// nothing to cut.
//
// It returns soon after ctx has ended, even if the storage is dead.
func (c *Cutter) Cut(ctx context.Context, v Volume) (Report, error) {
	var l ledger
	late, cancel := later(ctx)
	defer cancel()
	err := c.calls.Run(late, "cut of volume "+v.ID, func() error { return c.resume(v, &l).cut(ctx) })
	if err != nil {
		err = fmt.Errorf("cut volume %s: %w: %w", v.ID, ErrNotVerified, err)
	}
	return l.copy(), err
}

// Unblock undoes what cuts of v that were not verified have done, as far as that
// need not stay: the network to the storage is not blocked any more. Who was killed
// stays so, what was shut down or unmounted, too, and what they have come to know
// the next cut goes by. It may be repeated. If ctx ends before
// a cut of v that runs it does nothing, and returns an error.
func (c *Cutter) Unblock(ctx context.Context, v Volume) error {
	err := c.calls.Run(ctx, "cut of volume "+v.ID, func() error {
		c.resume(v, new(ledger)).unblock(ctx)
		return nil
	})
	if err != nil {
		return fmt.Errorf("undo the cut of volume %s: %w", v.ID, err)
	}
	return nil
}

// resume returns a run for v that knows what an earlier one of the volume has
// come to know, if that was not verified: who was killed and has not ended, say,
// of whom nothing else is to be seen any more.
func (c *Cutter) resume(v Volume, l *ledger) *run {
	c.mu.Lock()
	r := c.unfinished[v.ID]
	c.mu.Unlock()
	if r == nil {
		return newRun(c, v, l)
	}
	// Who was connected to the servers that it found may be dead by now.
	for _, server := range r.v.Servers {
		if !slices.Contains(v.Servers, server) {
			v.Servers = append(slices.Clone(v.Servers), server)
		}
	}
	r.v, r.ledger, r.synced, r.blocked, r.problem = v, l, false, 0, nil
	// Another namespace may have got the name, another file system the number.
	clear(r.stuck)
	clear(r.since)
	clear(r.shut)
	return r
}

// remember keeps a run for the next one of the volume, or doesn't any more.
func (c *Cutter) remember(r *run, unfinished bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !unfinished {
		delete(c.unfinished, r.v.ID)
		c.connections.forget(r.v.ID)
		return
	}
	if c.unfinished == nil {
		c.unfinished = make(map[string]*run)
	}
	c.unfinished[r.v.ID] = r
}

// cut does one round after the other. Only looking at the machine, which it does
// itself, might hang beyond the end of ctx.
func (r *run) cut(ctx context.Context) error {
	defer r.close(ctx)
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		done, err := r.round(ctx)
		switch {
		case err == nil && done:
			r.c.remember(r, false)
			r.unblock(ctx)
			return nil
		case ctx.Err() != nil:
			r.c.remember(r, true)
			return r.failure(ctx, err)
		case err == nil:
			pause = minPause
			continue
		}
		r.problem = err
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// The pauses between two rounds of which the first found something in the way.
const (
	minPause = 5 * time.Millisecond
	maxPause = 200 * time.Millisecond
)

// failure returns what is in the way after ctx has ended: what the last round
// says, unless that is no more than that ctx has ended.
func (r *run) failure(ctx context.Context, err error) error {
	if err == nil || r.problem != nil && errors.Is(err, ctx.Err()) {
		err = r.problem
	}
	switch {
	case err == nil:
		return context.Cause(ctx)
	case errors.Is(err, ctx.Err()):
		return err
	}
	return fmt.Errorf("%w: %w", context.Cause(ctx), err)
}

// later returns a context that ends a little after ctx: the time that is needed
// to say why nothing came of it.
func later(ctx context.Context) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(maxPause, cancel)
		context.AfterFunc(late, func() { timer.Stop() })
	})
	return late, func() {
		stop()
		cancel()
	}
}
