package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// writing is a start of a host's container, and what it says from then on.
type writing struct {
	first  chan struct{} // closed when it has written for the first time
	ended  chan struct{} // closed when there is nothing more to hear of it
	cancel context.CancelFunc
}

// start starts a host's container, and notes what it says. It is heard without the
// engine's log, which not every driver of those gives back.
func (d *drill) start(ctx context.Context, e *engine) *writing {
	ctx, cancel := context.WithCancel(ctx)
	w := &writing{first: make(chan struct{}), ended: make(chan struct{}), cancel: cancel}
	var once sync.Once
	d.streams.Go(func() {
		defer close(w.ended)
		defer cancel()
		stream(ctx, e.argv("start", "--attach", e.container), func(line string) {
			d.notes.ack(e.name, line)
			once.Do(func() { close(w.first) })
		}, func(line string) {
			by := "docker"
			if strings.HasPrefix(line, "beat:") {
				by = "writer"
			}
			if strings.TrimSpace(line) != "" {
				d.notes.event(e.name, by, "", line)
			}
		})
	})
	return w
}

// writes waits until a host has written, and has done so for a while.
func (d *drill) writes(ctx context.Context, e *engine, w *writing, while time.Duration) error {
	select {
	case <-w.first:
	case <-w.ended:
		return fmt.Errorf("the container on %s does not write: %s", e.name, d.notes.lastSaid(e.name))
	case <-time.After(beginning):
		return fmt.Errorf("the container on %s has not written within %v", e.name, beginning)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-time.After(while):
		return nil
	case <-w.ended:
		return fmt.Errorf("the container on %s ended by itself: %s", e.name, d.notes.lastSaid(e.name))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
