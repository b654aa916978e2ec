package volumes

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// undoTimeout bounds the undoing of a call whose caller has left.
const undoTimeout = time.Minute

// grace is how long a call whose time is up may take to say what it waited for,
// and to undo what it began. Engines wait longer than the limits of their calls.
const grace = time.Second

// call runs fn under the lock of one volume. Storage may block a system call
// for as long as it likes, so when ctx ends call returns and leaves fn behind:
// the volume stays locked until fn ends, and if fn succeeded after all, the
// undo that it returned (nil for none) is run, because nobody was told. At the
// deadline of ctx fn gets some grace, for it alone knows what it waited for; who
// has hung up is let go at once.
func call[T any](ctx context.Context, m *Manager, name string, fn func(context.Context) (T, func(context.Context), error)) (T, error) {
	var none T
	release, err := m.locks.acquire(ctx, name)
	if err != nil {
		return none, unavailablef("volume %q is busy, an earlier call for it has not ended: %w", name, err)
	}
	return callLocked(ctx, m, name, release, fn)
}

// callLocked is call for a lock that is held already.
func callLocked[T any](ctx context.Context, m *Manager, name string, release func(), fn func(context.Context) (T, func(context.Context), error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	var settled atomic.Bool // by fn, which delivers, or by the caller, who leaves
	m.calls.Add(1)
	go func() {
		defer m.calls.Done()
		defer release()
		value, undo, err := shield(ctx, m, name, fn)
		if settled.CompareAndSwap(false, true) {
			done <- result{value, err}
			return
		}
		m.log.Warn("call ended after its caller had left", "volume", name, "err", err)
		if err == nil && undo != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
			defer cancel()
			undo(ctx)
		}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
	}
	late := func(r result) (T, error) {
		if errors.Is(r.err, ctx.Err()) && !errors.Is(r.err, ErrUnavailable) {
			r.err = notNow{r.err}
		}
		return r.value, r.err
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		select {
		case r := <-done:
			return late(r)
		case <-time.After(grace):
		}
	}
	if !settled.CompareAndSwap(false, true) {
		return late(<-done)
	}
	var none T
	return none, unavailablef("volume %q: not done in time, its storage may hang: %w", name, ctx.Err())
}

// shield turns a panic into an error: a bug met by one volume must not end the
// daemon that all others depend on.
func shield[T any](ctx context.Context, m *Manager, name string, fn func(context.Context) (T, func(context.Context), error)) (value T, undo func(context.Context), err error) {
	defer func() {
		if p := recover(); p != nil {
			m.log.Error("call panicked", "volume", name, "panic", p, "stack", string(debug.Stack()))
			m.unfinished.Store(true)
			err = fmt.Errorf("volume %q: internal error, see dvold's log: %v", name, p)
		}
	}()
	return fn(ctx)
}

// simply runs fn by call, without a result and with nothing to undo.
func simply(ctx context.Context, m *Manager, name string, fn func(context.Context) error) error {
	_, err := call(ctx, m, name, func(ctx context.Context) (struct{}, func(context.Context), error) {
		return struct{}{}, nil, fn(ctx)
	})
	return err
}
