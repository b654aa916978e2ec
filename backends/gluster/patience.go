package gluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// firstPause and lastPause are how long is waited while the servers do something
// else with the Gluster volume.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// patiently repeats a command for as long as one may take, while the servers do
// something else with the Gluster volume: they do one thing at a time, and
// refuse the others.
func (m management) patiently(ctx context.Context, command func() error) error {
	limit, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := command()
		if !isBusy(err) {
			return err
		}
		select {
		case <-limit.Done():
			if ctx.Err() != nil {
				return fmt.Errorf("%w: %w", err, ctx.Err())
			}
			return unavailable(err)
		case <-time.After(pause/2 + rand.N(pause)): // not all at once again
		}
	}
}

// anotherTransaction is EG_ANOTRANS of glusterd; what it says of that, and of a list
// of quotas for which it could not mount the Gluster volume.
const (
	anotherTransaction = 30802
	anotherSaid        = "Another transaction is in progress"
	noAuxMount         = "Failed to start aux mount"
)

// isBusy tells whether nothing was done because the server, or another, did
// something else with the Gluster volume at that time.
func isBusy(err error) bool {
	if err == nil {
		return false
	}
	var r refused
	return errors.Is(err, errUntold) || strings.Contains(err.Error(), anotherSaid) || strings.Contains(err.Error(), noAuxMount) ||
		errors.As(err, &r) && (r.code == anotherTransaction || strings.HasPrefix(r.says, "Locking failed"))
}
