package volumes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dvol/dvold/backends"
)

// fences is what all fencers of a fleet know: who is cut off.
type fences struct {
	mu    sync.Mutex // guards the fields below
	cut   map[string]bool
	said  []string                  // "fence h1" and "unfence h1", in order
	fault func(action string) error // before each action; nil: none

	domain   string // what a fence covers; otherwise the volume
	working  atomic.Int32
	together atomic.Bool // two were at work at once
}

// fencer is one host's way to cut others off, one at a time. It behaves; whoever
// mounts is not stopped by it.
type fencer struct {
	all  *fences
	host string // that it runs on
}

func (f *fencer) Method() string { return "test" }

func (f *fencer) Effect(b backends.Fence) string { return "cut off host " + b.Host }

func (f *fencer) Identity(_ context.Context, handle string) (backends.Identity, error) {
	domain := "test/" + handle
	if f.all.domain != "" {
		domain = f.all.domain
	}
	return backends.Identity{Domain: domain, Facts: map[string]string{"machine": f.host}}, nil
}

func (f *fencer) Fence(_ context.Context, b backends.Fence) error { return f.act("fence", b) }

func (f *fencer) Unfence(_ context.Context, b backends.Fence) error { return f.act("unfence", b) }

func (f *fencer) Turn(backends.Fence) string { return "test/all" }

func (f *fencer) act(action string, b backends.Fence) error {
	if f.all.working.Add(1) > 1 {
		f.all.together.Store(true)
	}
	defer f.all.working.Add(-1)
	f.all.mu.Lock()
	defer f.all.mu.Unlock()
	f.all.said = append(f.all.said, fmt.Sprintf("%s %s", action, b.Identity.Facts["machine"]))
	if f.all.fault != nil {
		if err := f.all.fault(action); err != nil {
			return err
		}
	}
	f.all.cut[b.Identity.Facts["machine"]] = action == "fence"
	return nil
}

func (f *fences) log() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.said)
}

func (f *fences) fail(fault func(action string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

var errSwitch = errors.New("the switch does not answer")
