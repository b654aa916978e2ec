package volumes

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestImportedVolumeAppearsWhole(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	err := w.Import(t.Context(), "data", map[string]string{"pool": "b"}, func(_ context.Context, dir string) error {
		w.write(dir, "file", "text")
		if _, err := w.Get(t.Context(), "data"); !errors.Is(err, ErrNotFound) {
			t.Errorf("half a volume is seen: %v", err)
		}
		if !w.mounted(dir) {
			t.Errorf("%s is not the volume", dir)
		}
		return nil
	})
	w.must(err)
	target := w.mount("data", "id", me(t))
	if got := w.read(target, "file"); got != "text" {
		t.Errorf("content = %q, want text", got)
	}
	err = w.Import(t.Context(), "data", nil, func(context.Context, string) error {
		t.Error("an existing volume is filled")
		return nil
	})
	if !errors.Is(err, ErrExists) {
		t.Errorf("second import: %v, want %v", err, ErrExists)
	}
	if err := w.Unmount(t.Context(), "data", "id"); err != nil {
		t.Error(err)
	}
}

func TestFailedImportLeavesNothing(t *testing.T) {
	w := newWorld(t).start()
	defer w.stop()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	half := func(after func() error) func(context.Context, string) error {
		return func(_ context.Context, dir string) error { w.write(dir, "file", "half"); return after() }
	}
	broken := errors.New("broken")
	if err := w.Import(t.Context(), "fails", nil, half(func() error { return broken })); !errors.Is(err, broken) {
		t.Errorf("import that fails: %v, want %v", err, broken)
	}
	if left := w.leftovers(); len(left) > 0 {
		t.Errorf("a failed import left %v", left)
	}
	if err := w.Import(ctx, "left", nil, half(func() error { cancel(); return nil })); !errors.Is(err, context.Canceled) {
		t.Errorf("import whose caller left: %v, want %v", err, context.Canceled)
	}
	if left := w.leftovers(); len(left) > 0 {
		t.Errorf("an import whose caller left, left %v", left)
	}
	if err := w.Import(t.Context(), "panics", nil, half(func() error { panic("a bug") })); err == nil {
		t.Error("import that panics: no error")
	}
	if left := w.leftovers(); len(left) > 0 {
		t.Errorf("an import that panics left %v", left)
	}
}

// leftovers lists what there is of volumes.
func (w *world) leftovers() (left []string) {
	w.t.Helper()
	for _, pattern := range []string{"pools/*/volumes/*", filepath.Join("pools/*", "work", "*"), "run/mnt/*"} {
		found, err := filepath.Glob(filepath.Join(w.dir, pattern))
		w.must(err)
		left = append(left, found...)
	}
	return left
}

// A crash in the middle of an import is followed by a start, or by another
// import before the sweeper has come round.
func TestInterruptedImportStartsOver(t *testing.T) {
	w := newWorld(t).start()
	r, _ := w.halfCreate("data")
	e := entry{Name: "data", ID: r.Record.ID, Pool: "a", Handle: r.Record.Handle}
	w.must(w.record(e))
	w.must(w.attach(t.Context(), w.pools["a"], e, AccessShared))
	w.write(w.target(r.Record.ID), "old", "half")
	w.stop()
	w.start()
	defer w.stop()
	err := w.Import(t.Context(), "data", nil, func(_ context.Context, dir string) error {
		if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
			t.Errorf("import begins with %v (%v), want nothing", names, err)
		}
		return nil
	})
	w.must(err)
	if made, _ := filepath.Glob(filepath.Join(w.dir, "pools/a/volumes/*")); len(made) != 1 {
		t.Errorf("volumes in the pool: %v, want one", made)
	}
}
