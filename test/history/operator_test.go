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

// operatorPatience is how long a brick keeps a client until it is started anew: much longer
// than it takes to end its connection.
const operatorPatience = 30 * time.Second

var brickAsked = regexp.MustCompile(`brick ([0-9.]+):\S* still has it for a client`)

// trouble is what a caller meets again and again.
type trouble struct {
	brick string
	since time.Time
}

// heed does what a failure asks for, if the caller has met it for long enough, and tells
// whether it did.
func (r *run) heed(failure error, t *trouble) (done bool, err error) {
	m := brickAsked.FindStringSubmatch(failure.Error())
	switch {
	case m == nil:
		*t = trouble{}
		return false, nil
	case t.brick != m[1]:
		*t = trouble{m[1], time.Now()}
	}
	if time.Since(t.since) < operatorPatience {
		return false, nil
	}
	r.operator.mu.Lock()
	defer r.operator.mu.Unlock()
	if r.operator.started[t.brick].Before(t.since) {
		if err := r.startAnew(t.brick); err != nil {
			return false, fmt.Errorf("start brick %s anew: %w", t.brick, err)
		}
		r.count.bricks.Add(1)
		r.t.Logf("brick %s was started anew: %v", t.brick, failure)
	}
	*t = trouble{t.brick, time.Now()}
	r.operator.started[t.brick] = t.since
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
