package upkeep

import "context"

// Turn is for one at a time. Other than a mutex it can be given up waiting for: who has it
// may wait for storage that hangs.
type Turn chan struct{}

// NewTurn returns one that nobody has.
func NewTurn() Turn { return make(Turn, 1) }

// Take waits for the turn until ctx ends, whose cause it returns then. The turn is had until
// done is called, once.
func (t Turn) Take(ctx context.Context) (done func(), err error) {
	select {
	case t <- struct{}{}:
		return t.give, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Try is Take that does not wait.
func (t Turn) Try() (done func(), ok bool) {
	select {
	case t <- struct{}{}:
		return t.give, true
	default:
		return nil, false
	}
}

func (t Turn) give() { <-t }
