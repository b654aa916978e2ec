package volumes

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// Where a volume has one writer at a time, one that asks for nothing is exclusive, and
// none is shared, which is said when it is made.
func TestAccessOfOneWriter(t *testing.T) {
	w := newWorld(t)
	w.oneWriter = true
	w.start()
	defer w.stop()
	ctx := t.Context()
	for _, options := range []map[string]string{nil, {"takeover": "manual", "mount_wait": "1s"}, {"access": "exclusive"}} {
		w.must(w.Create(ctx, "data", options))
		v, err := w.Get(ctx, "data")
		w.must(err)
		if v.Access != AccessExclusive {
			t.Errorf("asked for %v, it became %s", options, v.Access)
		}
		w.must(w.Create(ctx, "data", nil)) // as engines of other hosts do
		wantError(t, "create", w.Create(ctx, "data", map[string]string{"access": "shared"}), ErrMismatch, "access=exclusive")
		w.must(w.Remove(ctx, "data", nil))
	}
	wantError(t, "create", w.Create(ctx, "new", map[string]string{"access": "shared"}), ErrInvalid, `pool "a" has one writer at a time`)
	wantError(t, "get", func() error { _, err := w.Get(ctx, "new"); return err }(), ErrNotFound, "")

	w.must(w.Create(ctx, "data", nil))
	_, err := w.SetAccess(ctx, "data", AccessShared)
	wantError(t, "set", err, ErrInvalid, "one writer at a time")
	_, err = w.SetAccess(ctx, "data", AccessReadOnly)
	w.must(err)
	w.must(w.Import(ctx, "filled", nil, func(_ context.Context, dir string) error {
		return os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600)
	}))

	// Other pools are as they were.
	wantError(t, "create", w.Create(ctx, "other", map[string]string{"pool": "b", "takeover": "manual"}), ErrInvalid, "for access=exclusive")
	w.must(w.Create(ctx, "other", map[string]string{"pool": "b"}))
	if v, err := w.Get(ctx, "other"); err != nil || v.Access != AccessShared {
		t.Errorf("got %+v, %v", v, err)
	}
}
