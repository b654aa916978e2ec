package guard

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/dvol/dvold/internal/cut"
)

// Order is what is to be cut when. A volume's Device and Root may be unknown
// until it is mounted.
type Order struct {
	cut.Volume
	Incarnation uint64        `json:"incarnation"`   // of this host, under which it owns the volume
	Deadline    time.Duration `json:"deadline"`      // when the lease is over
	CutTime     time.Duration `json:"cut_time"`      // how long after it the cut must be verified, or the host reboots
	Now         bool          `json:"now,omitempty"` // another host has the volume: cut it at once
	Since       time.Duration `json:"since"`         // when it was first put, in this incarnation; tells it from earlier ones of the volume. Set by Put
}

// leastTime is what a cut needs.
const leastTime = time.Second

// progress is how far the guard is with an order.
type progress struct {
	began    time.Duration // 0: no cut has begun
	verified time.Duration // 0: it is not verified
}

// verdict is what has to be done about an order.
type verdict struct{ cut, reboot bool }

// judge decides about an order: the one place that does. Mounted tells that
// there is a mount where the volume is mounted, which matters after a cut.
//
// An order that is due stays so until dvold says otherwise. A volume that was
// cut and is mounted again, by a dvold that was frozen meanwhile, is cut again.
func judge(o Order, p progress, mounted bool, now time.Duration) verdict {
	switch {
	case !o.due(now) || p.verified != 0 && !mounted:
		return verdict{}
	case p.verified != 0 || p.began == 0:
		return verdict{cut: true}
	}
	return verdict{cut: true, reboot: now >= o.limit(p.began)}
}

// due tells that the volume is to be cut.
func (o Order) due(now time.Duration) bool { return o.Now || now >= o.Deadline }

// limit is when a cut that began then must be verified. That the host was
// replaced is no reason to reboot before the lease is over.
//
// One that begins too late, because the guard did, or because the volume was
// mounted again, has the whole time from then on: it is kinder than a reboot,
// and mostly quicker.
func (o Order) limit(began time.Duration) time.Duration {
	limit := o.Deadline + o.CutTime
	if o.Deadline > math.MaxInt64-o.CutTime {
		limit = math.MaxInt64
	}
	if began > limit-leastTime {
		limit = began + o.CutTime
	}
	return limit
}

// late tells that the volume should have been cut by now.
func (o Order) late(p progress, now time.Duration) bool {
	return now >= o.Deadline && p.verified == 0
}

// check returns why o can't be carried out, or nil.
func (o Order) check() error {
	switch {
	case o.ID == "":
		return errors.New("an order without a volume")
	case !filepath.IsAbs(o.Mountpoint):
		return fmt.Errorf("order for volume %s: mountpoint %q is not an absolute path", o.ID, o.Mountpoint)
	case o.CutTime <= 0 || o.Deadline <= 0:
		return fmt.Errorf("order for volume %s: no time to cut it", o.ID)
	}
	return nil
}

// checkOrders is check for a list, in which each volume is once.
func checkOrders(orders []Order) error {
	for i, o := range orders {
		if err := o.check(); err != nil {
			return err
		}
		if slices.ContainsFunc(orders[:i], o.sameVolume) {
			return fmt.Errorf("two orders for volume %s", o.ID)
		}
	}
	return nil
}

func (o Order) sameVolume(other Order) bool { return o.ID == other.ID }

func idsOf(orders []Order) []string {
	ids := make([]string, len(orders))
	for i, o := range orders {
		ids[i] = o.ID
	}
	return ids
}
