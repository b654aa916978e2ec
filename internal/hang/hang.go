// Package hang makes calls that the kernel may never come back from, for the storage is
// dead, and has whoever waits for one go on when the time is over.
package hang

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// ErrHangs means that a call did not come back before the context ended.
var ErrHangs = errors.New("hangs")

// ErrStillHangs is ErrHangs of an earlier call with the key: this one was not made.
var ErrStillHangs = fmt.Errorf("%w since it was tried before", ErrHangs)

// ErrTooMany means that a call was not made, for too many others hang.
var ErrTooMany = errors.New("too many calls hang")

// Calls are such calls. Each has a goroutine of its own, and with it a thread, which
// nothing can end; its key has another only once it has ended: however often it is tried
// again, there is one goroutine for a key. The zero value is ready for use, and may be
// used concurrently.
type Calls struct {
	Most int // that may be left behind, for another to be made; 0 is any number

	mu      sync.Mutex // guards the field below
	running map[string]running
}

// running is one that has not ended.
type running struct {
	ended  chan struct{}   // closed at the end
	waited <-chan struct{} // closed once nobody waits for it any more
}

// left tells whether it is left behind.
func (r running) left() bool {
	select {
	case <-r.waited:
		return true
	default:
		return false
	}
}

// Call returns what fn returns, or ErrHangs when ctx has ended, ErrStillHangs, or
// ErrTooMany, each after the key. It waits for an earlier call with the key. If fn comes
// back after ctx has ended, its value goes to drop, which may be nil, unless it failed;
// the call has not ended before drop has.
func Call[T any](ctx context.Context, c *Calls, key string, fn func() (T, error), drop func(T)) (T, error) {
	var none T
	ended, err := c.begin(ctx, key)
	if err != nil {
		return none, fmt.Errorf("%s: %w", key, err)
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
		<-ended // at once: whoever asks next finds it over
		return r.value, r.err
	case <-ctx.Done():
		return none, fmt.Errorf("%s: %w", key, ErrHangs)
	}
}

// Run is Call for what returns nothing but an error.
func (c *Calls) Run(ctx context.Context, key string, fn func() error) error {
	_, err := Call(ctx, c, key, func() (struct{}, error) { return struct{}{}, fn() }, nil)
	return err
}

// Left tells whether a call with the key is left behind: it has not ended, and nobody waits
// for it.
func (c *Calls) Left(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.running[key]
	return ok && r.left()
}

// begin notes a call once there is none with the key.
func (c *Calls) begin(ctx context.Context, key string) (ended chan struct{}, err error) {
	for {
		c.mu.Lock()
		before, ok := c.running[key]
		switch {
		case ok:
		case c.tooMany():
			c.mu.Unlock()
			return nil, ErrTooMany
		default:
			if c.running == nil {
				c.running = make(map[string]running)
			}
			ended = make(chan struct{})
			c.running[key] = running{ended, ctx.Done()}
			c.mu.Unlock()
			return ended, nil
		}
		c.mu.Unlock()
		select {
		case <-before.ended:
		case <-ctx.Done():
			return nil, ErrStillHangs
		}
	}
}

// tooMany tells whether as many are left behind as may be. c.mu is held.
func (c *Calls) tooMany() bool {
	left := 0
	for _, r := range c.running {
		if r.left() {
			left++
		}
	}
	return c.Most > 0 && left >= c.Most
}

func (c *Calls) end(key string, ended chan struct{}) {
	c.mu.Lock()
	delete(c.running, key)
	c.mu.Unlock()
	close(ended)
}
