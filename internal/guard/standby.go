package guard

import (
	"context"
	"log/slog"
	"time"
)

// Standby is the guard in dvold's own process, for as long as there is no other:
// it carries out the orders in b whenever [Book.Unguarded] says why, until ctx
// ends. It leaves watchdogs alone, and is as dead or frozen as dvold is.
func Standby(ctx context.Context, b *Book, c Config, cutter Cutter, log *slog.Logger) {
	w := newWatcher(cutter, newReboot(c.RebootCommand, log), b.now, log)
	w.idle, w.wake = time.Hour, b.wake
	for standing := false; ; {
		now := b.now() // before the orders are read: see Book.Renew
		orders := b.Orders()
		var guarded []Order
		var missing error
		if len(orders) > 0 {
			if missing = b.Unguarded(); missing == nil {
				guarded, orders = orders, nil
			}
		}
		if stands := len(orders) > 0; stands != standing {
			if standing = stands; standing {
				log.Warn("dvold sees to exclusive volumes by itself, as long as it runs", "why", missing)
			} else {
				log.Info("dvold need not see to exclusive volumes by itself any more")
			}
		}
		w.cede(guarded)
		w.step(ctx, now, orders)
		for _, o := range guarded { // it may be gone by then, and nobody says so
			at := now + tick
			if !o.due(now) {
				at = max(at, o.Deadline)
			}
			w.next = min(w.next, at)
		}
		b.mu.Lock()
		b.own = w.outcomes()
		b.mu.Unlock()
		if !w.wait(ctx) {
			break
		}
	}
	w.stop()
}
