package guard

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/dvol/dvold/internal/cut"
)

// maxKilled is how many victims an outcome names, the latest.
const maxKilled = 100

// job is what a watcher knows of an order.
type job struct {
	order Order
	progress
	volume  cut.Volume // that is cut
	problem string
	killed  []cut.Victim
	cancel  context.CancelFunc // of the cut that runs
	ended   chan end           // of it; nil if none runs
	retry   time.Duration      // not before, after one that failed
}

func newJob(o Order) *job { return &job{order: o, volume: o.Volume} }

// end is how a cut ended.
type end struct {
	report cut.Report
	err    error
	at     time.Duration
}

// stop ends the cut that runs, or leaves it to itself should it hang.
func (j *job) stop() {
	if j.cancel != nil {
		j.cancel()
	}
	j.cancel, j.ended = nil, nil
}

// overdue says why the host has to reboot.
func (j *job) overdue(now time.Duration) string {
	problem := j.problem
	if problem == "" {
		problem = "it has come to no end"
	}
	return fmt.Sprintf("the lease of volume %s is over for %v, and its cut-off is not verified: %s", j.order.ID, now-j.order.Deadline, problem)
}

// identified returns v with what is mounted at its mountpoint, unless that is
// known. It must be known before the mountpoint is empty.
func identified(v cut.Volume) cut.Volume {
	if v.Device != "" {
		return v
	}
	known, err := v.Identified()
	if err != nil {
		return v
	}
	return known
}

// sameVolume tells whether a cut of either is a cut of both.
func sameVolume(a, b cut.Volume) bool { return reflect.DeepEqual(a, b) }
