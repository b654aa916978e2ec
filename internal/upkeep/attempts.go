package upkeep

import (
	"context"
	"errors"
	"fmt"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/hang"
)

// maxLeft is how many of a pool's attempts may have been left behind, for another to be
// made: each keeps a thread, which nothing can end.
const maxLeft = 4

// Attempts are a pool's to have the kernel mount or map something, which it does not come
// back from for as long as the storage is silent. They may be made concurrently.
type Attempts struct{ calls hang.Calls }

// NewAttempts returns none yet.
func NewAttempts() *Attempts { return &Attempts{hang.Calls{Most: maxLeft}} }

// Do returns what try returns. If ctx ends first that is left behind, and Do returns
// ErrUnavailable with ctx's cause; if try succeeds after all, undo is called. Until both
// have ended no other attempt with the key is made: Do waits. While four or more are left
// behind none with another key is, which is ErrUnavailable at once.
func (a *Attempts) Do(ctx context.Context, key string, try func() error, undo func()) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", backends.ErrUnavailable, context.Cause(ctx))
	}
	_, err := hang.Call(ctx, &a.calls, key, func() (struct{}, error) { return struct{}{}, try() }, func(struct{}) { undo() })
	switch {
	case errors.Is(err, hang.ErrTooMany):
		return fmt.Errorf("%d or more earlier attempts still wait for the pool's storage, and no more are made: %w", maxLeft, backends.ErrUnavailable)
	case errors.Is(err, hang.ErrStillHangs):
		return fmt.Errorf("an earlier attempt still waits for the storage: %w: %w", backends.ErrUnavailable, context.Cause(ctx))
	case errors.Is(err, hang.ErrHangs):
		return fmt.Errorf("%w: %w", backends.ErrUnavailable, context.Cause(ctx))
	}
	return err
}

// Left tells whether an attempt with the key is left behind: what it comes to is undone.
func (a *Attempts) Left(key string) bool { return a.calls.Left(key) }
