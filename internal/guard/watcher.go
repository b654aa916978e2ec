package guard

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/host"
)

// lastWord is how long a cut that was ended may take to say what is in the way.
const lastWord = 250 * time.Millisecond

// watcher carries out orders. Its methods are for one goroutine; the cuts run in
// others, each volume's in its own, for one may hang on its storage.
type watcher struct {
	cutter Cutter
	reboot *reboot
	now    func() time.Duration
	log    *slog.Logger

	jobs    map[string]*job          // by the volume's ID; of each order that stands
	undone  map[string]chan struct{} // volumes of which cuts that were called off are being undone; closed then
	left    map[string]Outcome       // what an earlier guard did, for the first step
	changes int                      // counts changes of outcomes
	next    time.Duration            // when the next order is due
	idle    time.Duration            // how long to wait for a first order at most
	cuts    sync.WaitGroup           // that run, or are undone
	wake    chan struct{}            // one has ended
	timer   *time.Timer
}

func newWatcher(cutter Cutter, r *reboot, now func() time.Duration, log *slog.Logger) *watcher {
	return &watcher{
		cutter: cutter, reboot: r, now: now, log: log,
		idle: tick, jobs: make(map[string]*job), undone: make(map[string]chan struct{}), wake: make(chan struct{}, 1), timer: time.NewTimer(0),
	}
}

// step does what the orders, as they stand, ask for at a time.
func (w *watcher) step(ctx context.Context, now time.Duration, orders []Order) {
	w.next = now + tick
	if len(orders) == 0 && len(w.jobs) == 0 {
		w.next = now + w.idle
	}
	w.collectUndone()
	standing := make(map[string]bool, len(orders))
	var overdue []string
	for _, o := range orders {
		standing[o.ID] = true
		j := w.job(ctx, o)
		w.collect(j)
		if !o.due(now) {
			w.next = min(w.next, o.Deadline)
			w.callOff(ctx, j)
			continue
		}
		v := judge(o, j.progress, j.verified != 0 && w.mounted(j), now)
		if v.cut && j.ended == nil && now >= j.retry {
			w.begin(ctx, j, now)
		}
		if v.reboot {
			overdue = append(overdue, j.overdue(now))
		} else if v.cut {
			w.next = min(w.next, max(now, o.limit(j.began)))
		}
	}
	for id, j := range w.jobs {
		if !standing[id] {
			w.callOff(ctx, j)
			delete(w.jobs, id)
		}
	}
	w.left = nil
	if len(overdue) > 0 {
		w.reboot.start(ctx, strings.Join(overdue, "; "))
	} else {
		w.reboot.stop()
	}
}

// job returns the job of an order. If the order is another than before, what was
// done about the volume counts no more; if another way to find the volume became
// known, the cut begins again.
func (w *watcher) job(ctx context.Context, o Order) *job {
	j := w.jobs[o.ID]
	if j == nil || j.order.Since != o.Since {
		if j != nil {
			w.callOff(ctx, j)
		}
		j = newJob(o)
		if left, ok := w.left[o.ID]; ok && left.Since == o.Since {
			j.progress, j.killed = progress{left.Began, left.Verified}, left.Killed
		}
		w.jobs[o.ID] = j
		w.changes++
	}
	if j.began != 0 && !sameVolume(j.order.Volume, o.Volume) {
		j.stop()
		if j.verified != 0 {
			j.progress = progress{}
		}
		w.changes++
	}
	if !sameVolume(j.order.Volume, o.Volume) {
		j.volume = o.Volume
	}
	j.order = o
	return j
}

// begin starts a cut, or goes on with one. It is given a time, so that it says
// what is in the way before the host has to reboot for it.
func (w *watcher) begin(ctx context.Context, j *job, now time.Duration) {
	if j.began == 0 || j.verified != 0 {
		if j.verified != 0 { // what was known about it is of a mount that is gone
			j.volume.Device, j.volume.Root, j.volume.Type, j.volume.Source, j.volume.Behind = "", "", "", "", nil
		}
		j.began, j.verified, j.problem = now, 0, ""
		w.changes++
		w.log.Warn("volume is cut off", "volume", j.order.ID, "replaced", j.order.Now, "lease_over_for", max(0, now-j.order.Deadline))
	}
	patience := j.order.CutTime
	if left := j.order.limit(j.began) - lastWord - now; left > 0 {
		patience = min(patience, left)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	ended := make(chan end, 1) // nobody may be there to hear of it
	j.cancel, j.ended = cancel, ended
	j.volume = identified(j.volume)
	volume, before := j.volume, w.undone[j.order.ID]
	w.cuts.Go(func() {
		defer cancel()
		var report cut.Report
		err := safely(func() (err error) {
			await(ctx, before) // if in vain the cut says what hangs
			report, err = w.cutter.Cut(ctx, volume)
			return err
		})
		ended <- end{report, err, w.now()}
		w.rouse()
	})
}

// rouse ends the wait for the next step.
func (w *watcher) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// collect takes note of a cut that has ended.
func (w *watcher) collect(j *job) {
	if j.ended == nil {
		return
	}
	var e end
	select {
	case e = <-j.ended:
	default:
		return
	}
	j.cancel, j.ended = nil, nil
	j.killed = append(j.killed, e.report.Killed...)
	j.killed = j.killed[max(0, len(j.killed)-maxKilled):]
	j.retry = e.at + tick // nobody at this priority does anything without a pause
	w.changes++
	if e.err == nil && w.mounted(j) {
		e.err = errors.New("it is mounted")
	}
	if e.err != nil {
		j.problem = e.err.Error()
		w.log.Warn("volume is not cut off yet", "volume", j.order.ID, "err", e.err)
		return
	}
	j.problem, j.verified = "", e.at
	w.log.Warn("volume was cut off", "volume", j.order.ID, "took", e.at-j.began, "killed", j.killed)
}

// callOff ends a cut that must not go on, and has it undone before the next one
// of the volume begins.
func (w *watcher) callOff(ctx context.Context, j *job) {
	if j.began == 0 {
		return
	}
	w.log.Warn("cut of volume was called off", "volume", j.order.ID, "verified", j.verified != 0)
	j.stop()
	volume, verified := j.volume, j.verified != 0
	*j = *newJob(j.order)
	w.changes++
	if verified { // nothing is left of it
		return
	}
	before, undone := w.undone[volume.ID], make(chan struct{})
	w.undone[volume.ID] = undone
	w.cuts.Go(func() {
		await(ctx, before)
		if err := safely(func() error { return w.cutter.Unblock(ctx, volume) }); err != nil {
			w.log.Error("what a cut that was called off has done to the host may stay", "volume", volume.ID, "err", err)
		}
		close(undone)
		w.rouse()
	})
}

// await waits until something is undone, if it is not nil, or ctx ends.
func await(ctx context.Context, undone chan struct{}) {
	if undone == nil {
		return
	}
	select {
	case <-undone:
	case <-ctx.Done():
	}
}

// collectUndone takes note of cuts that are undone.
func (w *watcher) collectUndone() {
	maps.DeleteFunc(w.undone, func(_ string, undone chan struct{}) bool {
		select {
		case <-undone:
			return true
		default:
			return false
		}
	})
}

// cede leaves the cuts that orders ask for to another guard, as they are.
func (w *watcher) cede(orders []Order) {
	for _, o := range orders {
		if j := w.jobs[o.ID]; j != nil {
			j.stop()
			delete(w.jobs, o.ID)
			w.changes++
		}
	}
}

// mounted tells whether a volume that was cut is mounted again. What can't be
// found out does not count: the cut was verified.
func (w *watcher) mounted(j *job) bool {
	mounted, err := host.IsMountpoint(j.order.Mountpoint)
	if mounted {
		w.log.Error("volume was mounted after it was cut off", "volume", j.order.ID, "mountpoint", j.order.Mountpoint)
	}
	return mounted && err == nil
}

// late tells that a volume should have been cut by now.
func (w *watcher) late(now time.Duration) bool {
	for _, j := range w.jobs {
		if j.order.late(j.progress, now) {
			return true
		}
	}
	return false
}

// verified returns the volumes that are cut.
func (w *watcher) verified() (ids []string) {
	for id, j := range w.jobs {
		if j.verified != 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// outcomes returns what was done about the orders that are due.
func (w *watcher) outcomes() map[string]Outcome {
	all := make(map[string]Outcome)
	for id, j := range w.jobs {
		if j.began != 0 {
			all[id] = Outcome{j.order.Since, j.began, j.verified, j.problem, j.killed}
		}
	}
	return all
}

// wait waits until there may be something to do, and returns false once ctx has
// ended.
func (w *watcher) wait(ctx context.Context) bool {
	w.timer.Reset(w.next - w.now())
	select {
	case <-ctx.Done():
		return false
	case <-w.wake:
	case <-w.timer.C:
	}
	return true
}

// stop ends all cuts. It does not wait long: some may hang.
func (w *watcher) stop() {
	for _, j := range w.jobs {
		j.stop()
	}
	w.reboot.stop()
	ended := make(chan struct{})
	go func() {
		w.cuts.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(time.Second):
		w.log.Error("cuts hang, and are left to themselves")
	}
}

// safely calls fn; a bug met by one volume must not end the guard.
func safely(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return fn()
}
