package upkeep_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/upkeep"
)

// What succeeds when nobody waits for it any more is undone before it is tried again;
// something else does not wait for it.
func TestLateAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := upkeep.NewAttempts()
		var mu sync.Mutex
		var did []string
		do := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			did = append(did, what)
		}
		attempt := func(key, what string, takes, wait time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			return a.Do(ctx, key, func() error {
				time.Sleep(takes)
				do(what)
				return nil
			}, func() { do("undone") })
		}
		if err := attempt("a", "a late", 10*time.Second, time.Second); !errors.Is(err, backends.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one that hangs: got %v", err)
		}
		if !a.Left("a") || a.Left("b") {
			t.Errorf("left behind: a %t, b %t, want a", a.Left("a"), a.Left("b"))
		}
		if err := attempt("a", "a never", 0, time.Second); !errors.Is(err, backends.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the same again, meanwhile: got %v", err)
		}
		if err := attempt("b", "b", 0, time.Second); err != nil {
			t.Errorf("another, meanwhile: %v", err)
		}
		if err := attempt("a", "a", 0, time.Minute); err != nil {
			t.Errorf("again, for as long as it takes: %v", err)
		}
		if got, want := fmt.Sprint(did), "[b a late undone a]"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := a.Do(ended, "a", func() error { do("a never"); return nil }, nil); !errors.Is(err, context.Canceled) || len(did) != 4 {
			t.Errorf("by who has left: got %v, and did %v", err, did)
		}
	})
}

// Those that hang, and that nobody waits for, are few; those that somebody waits for don't count.
func TestManyHangingAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many, allowed = 8, 4
		a := upkeep.NewAttempts()
		release := make(chan struct{})
		hang := func() error { <-release; return errors.New("no") }
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		for n := range many {
			go func() { ended <- a.Do(ctx, fmt.Sprint(n), hang, nil) }()
		}
		synctest.Wait()
		if err := a.Do(t.Context(), "well", func() error { return nil }, nil); err != nil {
			t.Errorf("while others are waited for: %v", err)
		}
		cancel()
		for range many {
			if err := <-ended; !errors.Is(err, backends.ErrUnavailable) {
				t.Errorf("one that hangs: got %v", err)
			}
		}
		called := false
		if err := a.Do(t.Context(), "well", func() error { called = true; return nil }, nil); !errors.Is(err, backends.ErrUnavailable) || called {
			t.Errorf("while too many hang: got %v, called %t", err, called)
		}
		close(release)
		synctest.Wait()
		if err := a.Do(t.Context(), "well", func() error { return nil }, nil); err != nil {
			t.Errorf("when they have ended: %v", err)
		}

		// One after the other: as many are tried as may hang, and those but once.
		release = make(chan struct{})
		var tried atomic.Int32
		for n := range many {
			for range 2 {
				short, cancel := context.WithTimeout(t.Context(), time.Second)
				if err := a.Do(short, fmt.Sprint(n), func() error { tried.Add(1); <-release; return nil }, func() {}); !errors.Is(err, backends.ErrUnavailable) {
					t.Errorf("%d: got %v", n, err)
				}
				cancel()
			}
		}
		if n := tried.Load(); n != allowed {
			t.Errorf("%d were tried, want %d", n, allowed)
		}
		close(release)
		synctest.Wait()
	})
}
