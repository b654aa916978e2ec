//go:build ceph && cgo

package rbd

import (
	"context"
	"sync"
)

// turns lets one at a time do something with an image: a call, or who sees to
// mappings.
type turns struct {
	mu    sync.Mutex // guards the field below
	taken map[string]chan struct{}
}

func (t *turns) of(i image) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.taken == nil {
		t.taken = make(map[string]chan struct{})
	}
	c := t.taken[i.name]
	if c == nil {
		c = make(chan struct{}, 1)
		t.taken[i.name] = c
	}
	return c
}

// take waits for the turn, which done gives back.
func (t *turns) take(ctx context.Context, i image) (done func(), err error) {
	c := t.of(i)
	select {
	case c <- struct{}{}:
		return func() { <-c }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// try is take that does not wait.
func (t *turns) try(i image) (done func(), ok bool) {
	c := t.of(i)
	select {
	case c <- struct{}{}:
		return func() { <-c }, true
	default:
		return nil, false
	}
}
