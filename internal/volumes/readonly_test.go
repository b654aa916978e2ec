package volumes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// canWrite says whether a mount takes writes; a refusal must be the kernel's.
func (w *world) canWrite(target string) bool {
	w.t.Helper()
	err := os.WriteFile(filepath.Join(target, "probe"), nil, 0o644)
	if err != nil && !errors.Is(err, unix.EROFS) {
		w.t.Fatal(err)
	}
	return err == nil
}

func TestReadOnlyVolumeIsFilledFirstAndThenNobodyWrites(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	wantError(t, "create", h1.Create(t.Context(), "data", map[string]string{"access": "readonly"}), ErrInvalid, "--access readonly")
	h1.must(h1.Create(t.Context(), "data", nil))
	target := h1.mount("data", "c1", me(t))
	h1.write(target, "f", "precious")
	for _, n := range f.nodes { // h1 holds it
		_, err := n.SetAccess(t.Context(), "data", AccessReadOnly)
		wantError(t, "set on "+n.name, err, ErrInUse, "mounted")
	}
	h1.must(h1.Unmount(t.Context(), "data", "c1"))
	if v, err := h2.SetAccess(t.Context(), "data", AccessReadOnly); err != nil || v.Access != AccessReadOnly {
		t.Fatalf("set: %+v, %v", v, err)
	}
	for _, n := range f.nodes {
		target := n.mount("data", "c1", me(t))
		if n.canWrite(target) || n.read(target, "f") != "precious" {
			t.Errorf("%s could write to it", n.name)
		}
	}
	_, err := h1.SetAccess(t.Context(), "data", AccessShared)
	wantError(t, "set back while it is read", err, ErrInUse)
	for _, n := range f.nodes {
		n.must(n.Unmount(t.Context(), "data", "c1"))
	}
	if _, err := h1.SetAccess(t.Context(), "data", AccessShared); err != nil {
		t.Fatal(err)
	}
	if target := h2.mount("data", "c1", me(t)); !h2.canWrite(target) {
		t.Error("it can't be written to again")
	}
	h2.must(h2.Unmount(t.Context(), "data", "c1"))
	_, err = h1.SetAccess(t.Context(), "data", "everybody")
	wantError(t, "set to what is not known", err, ErrInvalid)
	_, err = h1.SetAccess(t.Context(), "nothing", AccessShared)
	wantError(t, "set of what is not there", err, ErrNotFound)
}

func TestAdoptedReadOnlyVolumeCanNotBeWritten(t *testing.T) {
	f := newFleet(t, "h1")
	h1 := f.node("h1")
	old := filepath.Join(f.dir, "pools", "a", "old")
	h1.must(os.MkdirAll(old, 0o755))
	h1.write(old, "f", "precious")
	h1.must(h1.Create(t.Context(), "data", map[string]string{"adopt": "old", "access": "readonly"}))
	target := h1.mount("data", "c1", me(t))
	if h1.canWrite(target) || h1.read(target, "f") != "precious" {
		t.Error("it could be written to")
	}
	h1.die() // and the next daemon's mount of it, too
	h1.start()
	if target := h1.mount("data", "c2", me(t)); h1.canWrite(target) {
		t.Error("it could be written to after a restart")
	}
	h1.must(errors.Join(h1.Unmount(t.Context(), "data", "c1"), h1.Unmount(t.Context(), "data", "c2")))
}

// TestReadOnlyIsKnown: what a host set it also knows while the coordinator is
// away.
func TestAccessThatWasSetHoldsWithoutTheCoordinator(t *testing.T) {
	f := newFleet(t, "h1")
	h1 := f.node("h1")
	h1.must(h1.Create(t.Context(), "data", nil))
	if _, err := h1.SetAccess(t.Context(), "data", AccessReadOnly); err != nil {
		t.Fatal(err)
	}
	h1.line.fail(away)
	if target := h1.mount("data", "c1", me(t)); h1.canWrite(target) {
		t.Error("it could be written to")
	}
	h1.must(h1.Unmount(t.Context(), "data", "c1"))
}

// TestSetAccessAndMount: whoever is told that it has the volume mounted has it
// as it is by then.
func TestMountDuringASetSeesOneAccessOrTheOther(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "data", nil))
	access := AccessShared
	for i := range 30 {
		next := map[Access]Access{AccessShared: AccessReadOnly, AccessReadOnly: AccessShared}[access]
		var wg sync.WaitGroup
		var set error
		var target string
		wg.Go(func() { _, set = h1.SetAccess(t.Context(), "data", next) })
		wg.Go(func() { target = h2.mount("data", fmt.Sprint("c", i), me(t)) })
		wg.Wait()
		if set == nil {
			access = next
		} else {
			wantError(t, "set", set, ErrInUse)
		}
		if got := h2.canWrite(target); got != (access == AccessShared) {
			t.Fatalf("access is %s, and it could be written to: %v", access, got)
		}
		h2.must(h2.Unmount(t.Context(), "data", fmt.Sprint("c", i)))
	}
	h2.settled()
	if got := strings.Join(h1.keys("intents/"), " "); got != "" {
		t.Errorf("left over: %s", got)
	}
}
