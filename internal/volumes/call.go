package volumes

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// undoTimeout bounds the undoing of a call whose caller has left.
const undoTimeout = time.Minute

// call runs fn under the lock of one volume. Storage may block a system call
// for as long as it likes, so when ctx ends call returns and leaves fn behind:
// the volume stays locked until fn ends, and if fn succeeded after all, the
// undo that it returned (nil for none) is run, because nobody was told.
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
		if !settled.CompareAndSwap(false, true) {
			r := <-done
			return r.value, r.err
		}
		var none T
		return none, fmt.Errorf("volume %q: its storage did not answer in time: %w: %w", name, ctx.Err(), ErrUnavailable)
	}
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
