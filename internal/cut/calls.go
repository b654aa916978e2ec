package cut

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// errHangs means that the kernel did not come back from a call in time.
var errHangs = errors.New("hangs")

// errStillHangs is errHangs of an earlier call with the key: this one was not
// made.
var errStillHangs = fmt.Errorf("%w since it was tried before", errHangs)

// calls are those that the kernel may not come back from, for the storage is
// dead. Each has a goroutine of its own, and its key another call only once it
// has ended: whatever hangs, and however often it is tried again, there is one
// goroutine for a key. The zero value is ready for use.
type calls struct {
	mu      sync.Mutex // guards the field below
	running map[string]chan struct{}
}

// call returns what fn returns, or errHangs when ctx has ended. If fn comes back
// only then, its value goes to drop, which may be nil.
func call[T any](ctx context.Context, c *calls, key string, fn func() (T, error), drop func(T)) (T, error) {
	var none T
	ended, err := c.begin(ctx, key)
	if err != nil {
		return none, err
	}
	type result struct {
		value T
		err   error
	}
	results := make(chan result)
	go func() {
		defer c.end(key, ended)
		value, err := fn()
		select {
		case results <- result{value, err}:
		case <-ctx.Done():
			if err == nil && drop != nil {
				drop(value)
			}
		}
	}()
	select {
	case r := <-results:
		return r.value, r.err
	case <-ctx.Done():
		return none, fmt.Errorf("%s: %w", key, errHangs)
	}
}

// run is call for what returns nothing but an error.
func (c *calls) run(ctx context.Context, key string, fn func() error) error {
	_, err := call(ctx, c, key, func() (struct{}, error) { return struct{}{}, fn() }, nil)
	return err
}

// begin waits until no call with the key is left.
func (c *calls) begin(ctx context.Context, key string) (ended chan struct{}, err error) {
	for {
		c.mu.Lock()
		before := c.running[key]
		if before == nil {
			if c.running == nil {
				c.running = make(map[string]chan struct{})
			}
			ended = make(chan struct{})
			c.running[key] = ended
			c.mu.Unlock()
			return ended, nil
		}
		c.mu.Unlock()
		select {
		case <-before:
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: %w", key, errStillHangs)
		}
	}
}

func (c *calls) end(key string, ended chan struct{}) {
	c.mu.Lock()
	delete(c.running, key)
	c.mu.Unlock()
	close(ended)
}
