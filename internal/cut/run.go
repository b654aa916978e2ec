package cut

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dvol/dvold/internal/host"
)

// run is one cut.
type run struct {
	*ledger
	c   *Cutter
	v   Volume
	log *slog.Logger

	targets []target
	devices map[uint64]bool            // of their file systems, as stat(2) has them
	others  []string                   // where our own namespace shows a target, beside the mountpoint
	stuck   map[string]string          // namespaces from which a mount can't be taken away, and where
	since   map[string]time.Time       // since when a mount can't be
	unknown map[host.Process]time.Time // from when on who can't be told from a writer counts as one
	serving map[host.Process]bool      // who served a file system that was shut down
	dying   map[host.Process]doomed    // who was killed and has not ended yet
	held    map[string]held            // file systems to be synced, by device
	loops   map[string]string          // devices that show a file of a target, and which
	shut    map[string]bool            // file systems that were shut down, by device
	located map[int]uint64             // FUSE connections of which the servers are known, and the inodes that tell them from later ones
	aborted map[int]uint64             // those that were aborted, likewise
	synced  bool                       // after a look that found nobody and no mount, nor has one since
	filters map[string]bool            // that were tried, by name, and whether the network may be blocked by them
	blocked int                        // how many of the servers are
	trouble []error                    // what failed in this round, and need not have succeeded
	problem error                      // what was in the way in the round before
}

func newRun(c *Cutter, v Volume, l *ledger) *run {
	return &run{
		c: c, v: v, log: c.Log, ledger: l,
		filters: make(map[string]bool), devices: make(map[uint64]bool), stuck: make(map[string]string), since: make(map[string]time.Time), unknown: make(map[host.Process]time.Time), serving: make(map[host.Process]bool),
		dying: make(map[host.Process]doomed), held: make(map[string]held), loops: make(map[string]string), shut: make(map[string]bool), located: make(map[int]uint64), aborted: make(map[int]uint64),
	}
}

// close lets go of the file systems that the run holds.
func (r *run) close(ctx context.Context) {
	for device := range r.held {
		_ = r.letGo(ctx, device) // it hangs, and was said to
	}
}

// ledger is a report in the making.
type ledger struct {
	mu     sync.Mutex // guards the field below
	report Report
}

// note changes the report.
func (l *ledger) note(change func(*Report)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.report)
}

// copy returns the report as it is.
func (l *ledger) copy() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	report := l.report
	report.Killed, report.Unmounted = slices.Clone(report.Killed), slices.Clone(report.Unmounted)
	report.ShutDown, report.Destroyed = slices.Clone(report.ShutDown), slices.Clone(report.Destroyed)
	return report
}

// quickly returns the context for what must not keep a round from its next step,
// should the storage hang: a part of the time that is left, and no more than one
// that is well would need.
func quickly(ctx context.Context) (context.Context, context.CancelFunc) {
	wait := 500 * time.Millisecond
	if end, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(end)/4)
	}
	return context.WithTimeout(ctx, wait)
}

// round looks at the machine and does what comes next. It returns true once a
// look, after all was synced, has found nothing; an error says what is in the
// way; else another round is due at once.
//
// The order is what makes a cut sound. Once all who could write have been killed
// and have ended, and who serves a file system that is the volume's alone, the
// volume is unmounted. Only after another look, which found no mount, so that
// nobody new can come, nor anybody who came in time, what was written is synced.
// And another makes sure that nobody came in between, or all of it begins anew.
func (r *run) round(ctx context.Context) (bool, error) {
	r.trouble = nil
	synced := r.synced
	r.synced = false // unless this round finds that it still is
	l, err := r.survey(ctx)
	defer r.leave(ctx, l)
	if err != nil {
		return false, err
	}
	if len(r.targets) == 0 {
		return true, nil
	}
	if err := r.block(ctx); err != nil {
		r.trouble = append(r.trouble, err)
	}
	if err := r.shutDown(ctx, l); err != nil {
		r.trouble = append(r.trouble, err)
	}
	devices, err := loops()
	if err != nil {
		return false, err
	}
	r.suspect(ctx, l, devices)

	met, left, err := r.hunt(ctx, l)
	if err != nil || len(left) > 0 {
		return false, r.inTheWay(left, err)
	}
	if left, err := r.serviced(l); err != nil || len(left) > 0 {
		return false, r.inTheWay(left, err)
	}
	if spaces := l.shown(); len(spaces) > 0 {
		r.holdQuickly(ctx, l)
		left, err := r.unmount(ctx, spaces)
		if len(left) > 0 {
			left = append(left, r.looping(ctx, devices)...)
		}
		return false, r.inTheWay(left, err)
	}
	if met {
		return false, nil
	}
	if !synced {
		err := r.sync(ctx, l)
		r.synced = err == nil
		return false, r.inTheWay(nil, err)
	}
	r.synced = true
	left, err = r.verify(ctx, l, devices)
	return len(left) == 0 && err == nil, r.inTheWay(left, err)
}

// verify returns what is in the way though there is neither a process nor a
// mount.
func (r *run) verify(ctx context.Context, l *look, devices map[string]string) (left []string, err error) {
	left = r.looping(ctx, devices)
	for _, t := range r.targets {
		if !t.provable() {
			continue
		}
		if err := r.gone(ctx, t); err != nil {
			left = append(left, fmt.Sprintf("%v: %v", t, err))
		}
	}
	unsent, err := r.silence(l)
	return append(left, unsent...), err
}

// maxNamed is how much that is in the way an error names.
const maxNamed = 10

// inTheWay returns an error about what is left, and what failed, if there is
// either.
func (r *run) inTheWay(left []string, err error) error {
	if len(left) == 0 && err == nil {
		return nil
	}
	if more := len(left) - maxNamed; more > 0 {
		left = append(slices.Clone(left[:maxNamed]), fmt.Sprintf("%d more", more))
	}
	var failures []error
	if len(left) > 0 {
		failures = append(failures, errors.New("in the way: "+strings.Join(left, ", ")))
	}
	return oneLine(append(append(failures, err), r.trouble...))
}

// oneLine joins errors.
func oneLine(failures []error) error {
	var joined error
	for _, err := range failures {
		switch {
		case err == nil:
		case joined == nil:
			joined = err
		default:
			joined = fmt.Errorf("%w; %w", joined, err)
		}
	}
	return joined
}
