package cut

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestCallReturns(t *testing.T) {
	var c calls
	broken := errors.New("broken")
	got, err := call(t.Context(), &c, "a", func() (int, error) { return 7, broken }, nil)
	if got != 7 || !errors.Is(err, broken) {
		t.Errorf("got %d, %v, want 7, %v", got, err, broken)
	}
	if got, err := call(t.Context(), &c, "a", func() (int, error) { return 8, nil }, nil); got != 8 || err != nil {
		t.Errorf("the second time: got %d, %v, want 8", got, err)
	}
}

// However often a call hangs, it is made once, and what comes late is dropped.
func TestCallHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c calls
		var dropped, made atomic.Int32
		release := make(chan struct{})
		hang := func() (int, error) {
			made.Add(1)
			<-release
			return 7, nil
		}
		for i := range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := call(ctx, &c, "a", hang, func(int) { dropped.Add(1) })
			cancel()
			if !errors.Is(err, errHangs) || errors.Is(err, errStillHangs) != (i > 0) {
				t.Errorf("call %d: got %v", i, err)
			}
			if got, err := call(t.Context(), &c, "b", func() (int, error) { return 1, nil }, nil); got != 1 || err != nil {
				t.Errorf("another key: got %d, %v", got, err)
			}
		}
		close(release)
		synctest.Wait()
		if dropped.Load() != 1 || made.Load() != 1 {
			t.Errorf("%d calls were made, the values of %d dropped, want one", made.Load(), dropped.Load())
		}
		if got, err := call(t.Context(), &c, "a", hang, nil); got != 7 || err != nil {
			t.Errorf("after that: got %d, %v, want 7", got, err)
		}
	})
}
