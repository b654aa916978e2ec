package volumes

import (
	"context"
	"testing"
	"time"
)

// Whoever waits for a storage that hangs is let go soon after its time is up, and at once if it
// hangs up itself.
func TestCallThatHangsLetsItsCallerGo(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	w.must(w.Create(t.Context(), "data", nil))
	defer w.gates["a"].hang()()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := w.Mount(ctx, "data", "c1", me(t))
	wantError(t, "mount", err, ErrUnavailable, "its storage may hang", context.DeadlineExceeded.Error())
	if took := time.Since(began); took > 2*grace {
		t.Errorf("it was let go after %v", took)
	}
	ctx, hangUp := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, hangUp)
	began = time.Now()
	wantError(t, "create", w.Create(ctx, "new", nil), ErrUnavailable)
	if took := time.Since(began); took > grace {
		t.Errorf("who hung up was let go after %v", took)
	}
}
