//go:build ceph && cgo

package rbd

import (
	"context"
	"errors"
	"fmt"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/hang"
)

// within is hang.Call for what the cluster may keep waiting, which is ErrUnavailable once
// ctx has ended. What the key names is not begun anew before it has ended: however often that is
// tried, one thread waits for it.
func within[T any](ctx context.Context, c *hang.Calls, key string, fn func() (T, error), drop func(T)) (T, error) {
	v, err := hang.Call(ctx, c, key, fn, drop)
	return v, silence(ctx, err)
}

// doWithin is within for what returns nothing but an error.
func doWithin(ctx context.Context, c *hang.Calls, key string, fn func() error) error {
	return silence(ctx, c.Run(ctx, key, fn))
}

// silence says of a call that hangs what that means.
func silence(ctx context.Context, err error) error {
	if errors.Is(err, hang.ErrHangs) {
		return fmt.Errorf("it does not answer: %w: %w", backends.ErrUnavailable, context.Cause(ctx))
	}
	return err
}
