// Package upkeep sees to what a pool has on this host between calls: clients and
// mounts of storage that may hang.
package upkeep

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// closeTime is how long Close waits for what is under way.
const closeTime = 5 * time.Second

// Tender sees to things, in goroutines of its own, until Close.
type Tender struct {
	log   *slog.Logger
	ctx   context.Context // of all that it does
	end   context.CancelFunc
	tasks sync.WaitGroup
}

// New returns a Tender that has nothing to do yet. Close it.
func New(log *slog.Logger) *Tender {
	t := &Tender{log: log}
	t.ctx, t.end = context.WithCancel(context.Background())
	return t
}

// Go has f run in the background. Its context ends with Close. It is called before Close,
// or by what Go has run.
func (t *Tender) Go(f func(context.Context)) {
	t.tasks.Go(func() { f(t.ctx) })
}

// Each has see called for each of things, at once and then every interval, until Close.
// Each is seen to by itself, for it may hang: then the others are seen to all the same, and it
// is not again before see returns.
func Each[T comparable](t *Tender, interval time.Duration, things func() []T, see func(context.Context, T)) {
	t.Go(func(ctx context.Context) {
		var busy sync.Map
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			for _, one := range things() {
				if _, already := busy.LoadOrStore(one, nil); already {
					continue
				}
				t.Go(func(ctx context.Context) {
					defer busy.Delete(one)
					see(ctx, one)
				})
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
}

// Close ends all that, and waits for what is under way, but not for what hangs longer
// than five seconds. It may be repeated.
func (t *Tender) Close() {
	t.end()
	ended := make(chan struct{})
	go func() {
		t.tasks.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(closeTime):
		t.log.Warn("what the pool has on this host is still being seen to: its storage hangs")
	}
}
