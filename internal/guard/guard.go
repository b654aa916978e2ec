// Package guard cuts this host off from exclusive volumes whose lease is over,
// or that another host has taken over, whatever has become of dvold.
//
// Dvold writes down in a [Book], files in a directory on a tmpfs, what is to be
// cut when, before it mounts a volume, and each time its lease is renewed. The
// guard, a process of its own ([Run]), reads that ten times a second, cuts what
// is due, and writes down what came of it. It needs neither dvold nor the
// cluster nor, from when it runs, a disk. What it cuts off is the mounts, the
// processes and the network that it sees: they must be dvold's. Where there is no
// such guard, dvold does the same in its own process ([Standby]).
//
// A cut that is not verified in time ends with the machine: it reboots.
//
// Times are of CLOCK_BOOTTIME, which goes on while the machine sleeps.
package guard

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/program"
)

// Cutter cuts this host off from a volume.
type Cutter interface {
	// Cut returns nil exactly if it has verified that nothing on this host can
	// write to the volume. It may be repeated, and goes on until ctx ends.
	Cut(ctx context.Context, v cut.Volume) (cut.Report, error)

	// Unblock undoes what need not stay of cuts of a volume that were not
	// verified. It waits for one that runs.
	Unblock(ctx context.Context, v cut.Volume) error
}

// Config is what a guard is told.
type Config struct {
	Dir           string        // of the book
	CutTime       time.Duration // as in the orders: the timeout of the watchdog
	RebootCommand string        // gets the reason as its only argument; empty: the kernel's own reboot
	Watchdog      string        // device to feed; may be empty
	Ready         func()        // called once the guard watches; may be nil
}

// trustTime is how long it may take to look at the reboot command.
const trustTime = 5 * time.Second

// Validate returns an error that names the setting at fault. It is for when the
// guard starts: later, on a machine in distress, nobody looks at the command's
// path again before it is run.
func (c Config) Validate(ctx context.Context) error {
	if c.RebootCommand == "" {
		return nil
	}
	if err := program.StillTrusted(ctx, c.RebootCommand, trustTime); err != nil {
		return fmt.Errorf("reboot_command: %w", err)
	}
	return nil
}

// Run is the guard: it carries out the orders in the book, those that are there
// and those to come, until ctx ends, and returns nil then. Of two guards the
// second waits for the end of the first.
//
// What it has read it goes on with, should the file of the orders be damaged,
// removed, or replaced by that of another book, until it is told otherwise. But
// as long as it can't read what is there it does not count as a guard.
func Run(ctx context.Context, c Config, cutter Cutter, log *slog.Logger) (err error) {
	p, err := hold(ctx, c.Dir, log)
	if p == nil || err != nil {
		return err
	}
	defer p.close()
	dog, err := openWatchdog(c.Watchdog, c.CutTime, log)
	if err != nil {
		return err
	}
	r := newReader(filepath.Join(c.Dir, ordersFile), p.boot, log)
	w := newWatcher(cutter, newReboot(c.RebootCommand, log), host.BootTime, log)
	w.left = p.left()
	for ready := c.Ready; ; {
		now := host.BootTime() // before the orders are read: see Book.Renew
		good := r.read()
		w.step(ctx, now, r.orders())
		for _, id := range w.verified() {
			r.forget(id)
		}
		if good && p.keep() {
			p.publish(now, w)
		}
		dog.feed(now, w.late(now))
		if ready != nil {
			ready()
			ready = nil
		}
		if !w.wait(ctx) {
			break
		}
	}
	w.stop()
	standing := r.orders()
	if len(standing) > 0 {
		log.Error("the guard ends, and nobody but dvold cuts these volumes off now", "volumes", idsOf(standing), "watchdog", c.Watchdog)
	}
	return dog.close(len(standing) == 0)
}

// tick is how long the guard may take to notice a change of its orders.
const tick = 100 * time.Millisecond
