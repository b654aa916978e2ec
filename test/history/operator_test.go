package history_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// operator does what dvold asks one for. A brick of GlusterFS 10 may keep a client that has
// gone for good, in about one of sixty rounds on a busy machine, and no fence is proven until
// that brick is started anew (docs/gluster.md#fence).
type operator struct {
	mu      sync.Mutex           // has bricks started anew one after the other; guards the field below
	started map[string]time.Time // bricks, by address
}

var brickAsked = regexp.MustCompile(`brick ([0-9.]+):\S* still has it for a client`)

// heed does what the failure of an attempt asks for, unless that was done since the attempt
// began, and tells whether it asks for anything. A fence waits for a while until it does.
func (r *run) heed(failure error, began time.Time) (asked bool, err error) {
	m := brickAsked.FindStringSubmatch(failure.Error())
	if m == nil {
		return false, nil
	}
	brick := m[1]
	r.operator.mu.Lock()
	defer r.operator.mu.Unlock()
	if r.operator.started[brick].After(began) {
		return true, nil
	}
	if err := r.startAnew(brick); err != nil {
		return false, fmt.Errorf("start brick %s anew: %w", brick, err)
	}
	r.operator.started[brick] = time.Now()
	r.count.bricks.Add(1)
	r.t.Logf("brick %s was started anew: %v", brick, failure)
	return true, nil
}

// startAnew kills a brick, starts it, and waits until nothing is left to be healed.
func (r *run) startAnew(brick string) error {
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	for _, n := range r.Gluster().Nodes() {
		if n.Address().String() != brick {
			continue
		}
		if err := n.KillBrick(ctx); err != nil {
			return err
		}
		if err := r.Gluster().Start(ctx, n); err != nil {
			return err
		}
	}
	return r.eventually(func() error {
		said, err := r.Gluster().Exec(ctx, "volume", "heal", lab.GlusterVolume, "info", "summary")
		if err == nil && strings.Count(said, "Total Number of entries: 0") != len(r.Gluster().Nodes()) {
			err = fmt.Errorf("it is not healed: %s", said)
		}
		return err
	})
}
