package gluster

import (
	"context"
	"time"
)

// secondChance is how long a client may take to find its bricks again once another
// has found them.
const secondChance = 5 * time.Second

// replace ends a client that finds no bricks for good, as one may that they rejected
// for a while, if another finds them: what it served is healed then, as after its
// death. While no client finds them, it stays.
func (s *shared) replace(ctx context.Context, old *client) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	default:
		return nil
	}
	limit, cancel := context.WithTimeout(ctx, s.wait)
	defer cancel()
	c, err := s.startNew(limit)
	if err != nil {
		return err
	}
	pause(ctx, secondChance)
	if ctx.Err() != nil || s.health.await(ctx, old, secondChance) == nil {
		return c.end(context.WithoutCancel(ctx))
	}
	s.slog.Warn("client finds no brick, though another does: it is ended", "process", old.PID)
	if err := kill(old.Process); err != nil {
		return err
	}
	s.health.forget()
	return awaitEnd(ctx, old.Process)
}
