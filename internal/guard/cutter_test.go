package guard_test

import (
	"context"
	"errors"
	"sync"

	"github.com/dvol/dvold/internal/cut"
)

// cutter is a Cutter of volumes that are not there: it behaves as a test says,
// and otherwise has nothing to do.
type cutter struct {
	mu      sync.Mutex // guards the fields below
	behave  map[string]func(ctx context.Context) error
	cuts    map[string][]cut.Volume
	undone  map[string][]int // how many cuts had been asked for by then, each time
	unblock func()           // what it takes to unblock; may be nil
}

func newCutter() *cutter {
	return &cutter{behave: make(map[string]func(context.Context) error), cuts: make(map[string][]cut.Volume), undone: make(map[string][]int)}
}

func (c *cutter) Cut(ctx context.Context, v cut.Volume) (cut.Report, error) {
	c.mu.Lock()
	c.cuts[v.ID] = append(c.cuts[v.ID], v)
	behave := c.behave[v.ID]
	c.mu.Unlock()
	if behave == nil {
		return cut.Report{}, nil
	}
	return cut.Report{}, behave(ctx)
}

func (c *cutter) Unblock(_ context.Context, v cut.Volume) error {
	c.mu.Lock()
	unblock := c.unblock
	c.undone[v.ID] = append(c.undone[v.ID], len(c.cuts[v.ID]))
	c.mu.Unlock()
	if unblock != nil {
		unblock()
	}
	return nil
}

// unblocked returns how many cuts of a volume were asked for before each time that its network was unblocked.
func (c *cutter) unblocked(id string) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.undone[id]
}

func (c *cutter) set(id string, behave func(context.Context) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.behave[id] = behave
}

// of returns what was to be cut of a volume, each time.
func (c *cutter) of(id string) []cut.Volume {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cuts[id]
}

// Ways in which a cut comes to no end.
func hangs(context.Context) error { select {} }

func inVain(ctx context.Context) error {
	<-ctx.Done()
	return errors.New("process 7 is in the way")
}
