package backendtest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/dvol/dvold/backends"
)

func testRemove(t *testing.T, s *suite) {
	handle := s.create(t)
	target := s.mount(t, handle)
	for i := range 6 {
		dir := filepath.Join(target, fmt.Sprintf("dir %d", i), "ü", "deeper")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, dir, "file", "data")
	}
	s.unmount(t, handle, target)
	for range 2 {
		if err := s.Remove(t.Context(), handle); err != nil {
			t.Fatal(err)
		}
		_, err := s.Stat(t.Context(), handle)
		expect(t, "stat of a removed volume", err, backends.ErrNotFound)
	}
}

func testRemoveMounted(t *testing.T, s *suite) {
	handle := s.create(t)
	target, second := s.mount(t, handle), s.mount(t, handle)
	write(t, target, "file", "data")
	expectForUser(t, "remove", s.Remove(t.Context(), handle), backends.ErrInUse)
	s.unmount(t, handle, target)
	expectForUser(t, "remove with one mount left", s.Remove(t.Context(), handle), backends.ErrInUse)
	expectFile(t, second, "file", "data")
	s.unmount(t, handle, second)
	expectFile(t, s.mount(t, handle), "file", "data")
}

func testRemoveNeighbour(t *testing.T, s *suite) {
	v := s.plan(t, backends.Request{ID: "db.000000000001"})
	longer := s.plan(t, backends.Request{ID: "db.000000000001.000000000002"})
	for _, v := range []backends.Volume{v, longer} {
		if err := s.Create(t.Context(), v); err != nil {
			t.Fatal(err)
		}
	}
	target := s.mount(t, longer.Handle)
	write(t, target, "file", "data")
	if err := s.Remove(t.Context(), v.Handle); err != nil {
		t.Errorf("remove: %v", err)
	}
	s.unmount(t, longer.Handle, target)
	expectFile(t, s.mount(t, longer.Handle), "file", "data")
}
