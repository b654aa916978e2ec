package backendtest

import (
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
)

// resizer returns the backend as one that can change sizes, in a pool that has
// them, or nil: then there is nothing to test.
func (s *suite) resizer() backends.Resizer {
	r, ok := s.Backend.(backends.Resizer)
	if !ok || !s.fixture.Sizes {
		return nil
	}
	return r
}

func resize(t *testing.T, r backends.Resizer, handle string, to int64) {
	t.Helper()
	if err := r.Resize(t.Context(), handle, to); err != nil {
		t.Fatalf("resize to %d: %v", to, err)
	}
}

// A size can be raised, lowered, lifted and set again, repeatedly and by another
// instance, and Create changes it back no more.
func testResize(t *testing.T, s *suite) {
	r := s.resizer()
	if r == nil {
		return
	}
	v, other := s.createSized(t), s.createSized(t)
	sizes := []int64{3 * size, 3 * size, size / 2, size}
	if s.fixture.Disk > 0 {
		sizes = []int64{2 * size, 2 * size, 3 * size}
	}
	for _, to := range sizes {
		resize(t, r, v.Handle, to)
		s.expectInfo(t, v.Handle, to, 0)
		s.expectUsed(t, other.Handle, 0)
	}
	if s.fixture.Disk > 0 {
		for _, to := range []int64{2 * size, 0} {
			expectForUser(t, "resize of a disk to less", r.Resize(t.Context(), v.Handle, to), backends.ErrInvalid)
		}
	} else {
		resize(t, r, v.Handle, 0)
		info, err := s.Stat(t.Context(), v.Handle)
		if err != nil || info.Size != 0 {
			t.Errorf("without a limit: got size %d, %v", info.Size, err)
		}
	}
	target := s.mount(t, v.Handle)
	if _, err := s.fill(filepath.Join(target, "big"), 2*size); err != nil {
		t.Errorf("write without a limit: %v", err)
	}
	s.unmount(t, v.Handle, target)
	s.Backend = open(t, s.fixture)
	resize(t, s.resizer(), v.Handle, 3*size)
	s.expectInfo(t, v.Handle, 3*size, 2*size)
	if err := s.Create(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	s.expectInfo(t, v.Handle, 3*size, 2*size)
	if err := s.Remove(t.Context(), v.Handle); err != nil {
		t.Error(err)
	}
	s.expectUsed(t, other.Handle, 0)
}

// A full volume goes on once it may hold more, while it is mounted if that can be, and
// is not made smaller than it is.
func testResizeFull(t *testing.T, s *suite) {
	r := s.resizer()
	if r == nil {
		return
	}
	v := s.createSized(t)
	target := s.mount(t, v.Handle)
	written, err := s.fill(filepath.Join(target, "first"), s.tooMuch())
	s.expectFull(t, "write of too much", err)
	s.expectUsed(t, v.Handle, written)
	expectForUser(t, "resize below what it holds", r.Resize(t.Context(), v.Handle, size/2), backends.ErrInvalid)
	expectForUser(t, "resize below 0", r.Resize(t.Context(), v.Handle, -1), backends.ErrInvalid)

	if s.fixture.ResizeUnused {
		expectForUser(t, "resize while it is mounted", r.Resize(t.Context(), v.Handle, 4*size), backends.ErrInUse)
		s.unmount(t, v.Handle, target)
	}
	resize(t, r, v.Handle, 4*size)
	if s.fixture.ResizeUnused {
		target = s.mount(t, v.Handle)
	}
	written, err = 0, unix.EDQUOT
	for end := time.Now().Add(s.fixture.Lags); err != nil; { // until that is noticed
		if written, err = s.fill(filepath.Join(target, "second"), size); err != nil && time.Now().After(end) {
			t.Fatalf("write after it was resized: %d bytes, %v", written, err)
		}
	}
	_, err = s.fill(filepath.Join(target, "third"), 2*s.tooMuch())
	s.expectFull(t, "write of too much again", err)
	s.unmount(t, v.Handle, target)
}

// What is missing, or was adopted, can't be resized.
func testResizeRefused(t *testing.T, s *suite) {
	r := s.resizer()
	if r == nil {
		return
	}
	v := s.createSized(t)
	if err := s.Remove(t.Context(), v.Handle); err != nil {
		t.Fatal(err)
	}
	expect(t, "resize a removed volume", r.Resize(t.Context(), v.Handle, size), backends.ErrNotFound)
	if s.fixture.Adopt == nil {
		return
	}
	adopted := s.plan(t, backends.Request{Adopt: s.fixture.Adopt(t)})
	if err := s.Create(t.Context(), adopted); err != nil {
		t.Fatal(err)
	}
	expectForUser(t, "resize an adopted volume", r.Resize(t.Context(), adopted.Handle, size), backends.ErrInvalid)
}
