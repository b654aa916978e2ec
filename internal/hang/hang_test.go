package hang_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dvol/dvold/internal/hang"
)

func TestCallReturns(t *testing.T) {
	var c hang.Calls
	broken := errors.New("broken")
	got, err := hang.Call(t.Context(), &c, "a", func() (int, error) { return 7, broken }, nil)
	if got != 7 || !errors.Is(err, broken) {
		t.Errorf("got %d, %v, want 7, %v", got, err, broken)
	}
	if got, err := hang.Call(t.Context(), &c, "a", func() (int, error) { return 8, nil }, nil); got != 8 || err != nil {
		t.Errorf("the second time: got %d, %v, want 8", got, err)
	}
}

// Whoever has what a call returned finds it over, also when the context has ended since.
func TestWhatReturnedIsNotLeft(t *testing.T) {
	var c hang.Calls
	for range 20_000 {
		ctx, cancel := context.WithCancel(t.Context())
		err := c.Run(ctx, "a", func() error { return nil })
		cancel()
		if err != nil || c.Left("a") {
			t.Fatalf("it returned %v, and is left behind: %t", err, c.Left("a"))
		}
	}
}

// However often a call hangs, it is made once, and what comes late is dropped.
func TestCallHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c hang.Calls
		var dropped, made atomic.Int32
		release := make(chan struct{})
		slow := func() (int, error) {
			made.Add(1)
			<-release
			return 7, nil
		}
		for i := range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := hang.Call(ctx, &c, "a", slow, func(int) { dropped.Add(1) })
			cancel()
			if !errors.Is(err, hang.ErrHangs) || errors.Is(err, hang.ErrStillHangs) != (i > 0) {
				t.Errorf("call %d: got %v", i, err)
			}
			if got, err := hang.Call(t.Context(), &c, "b", func() (int, error) { return 1, nil }, nil); got != 1 || err != nil {
				t.Errorf("another key: got %d, %v", got, err)
			}
		}
		if !c.Left("a") || c.Left("b") {
			t.Errorf("left behind: a %t, b %t, want a", c.Left("a"), c.Left("b"))
		}
		close(release)
		synctest.Wait()
		if dropped.Load() != 1 || made.Load() != 1 {
			t.Errorf("%d calls were made, the values of %d dropped, want one", made.Load(), dropped.Load())
		}
		if c.Left("a") {
			t.Error("what has ended is left behind")
		}
		if got, err := hang.Call(t.Context(), &c, "a", slow, nil); got != 7 || err != nil {
			t.Errorf("after that: got %d, %v, want 7", got, err)
		}
	})
}

// A call is made only once what an earlier one came to is dropped.
func TestDropIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c hang.Calls
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		slow := func() (int, error) { time.Sleep(time.Minute); return 7, nil }
		gone := false
		drop := func(int) { time.Sleep(time.Minute); gone = true }
		if _, err := hang.Call(ctx, &c, "a", slow, drop); !errors.Is(err, hang.ErrHangs) {
			t.Errorf("got %v", err)
		}
		err := c.Run(t.Context(), "a", func() error {
			if !gone {
				t.Error("it was called before the other was dropped")
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// No more than so many are left behind; those that somebody waits for don't count.
func TestMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 4
		c := hang.Calls{Most: most}
		release := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		for n := range 2 * most {
			go func() { ended <- c.Run(ctx, fmt.Sprint(n), func() error { <-release; return nil }) }()
		}
		synctest.Wait()
		well := func() error { return c.Run(t.Context(), "well", func() error { return nil }) }
		if err := well(); err != nil {
			t.Errorf("while the others are waited for: %v", err)
		}
		cancel()
		for range 2 * most {
			if err := <-ended; !errors.Is(err, hang.ErrHangs) {
				t.Errorf("one that hangs: got %v", err)
			}
		}
		if err := well(); !errors.Is(err, hang.ErrTooMany) || errors.Is(err, hang.ErrHangs) {
			t.Errorf("while too many hang: got %v", err)
		}
		close(release)
		synctest.Wait()
		if err := well(); err != nil {
			t.Errorf("when they have ended: %v", err)
		}
	})
}
