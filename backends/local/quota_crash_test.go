package local_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// Wherever Create or Remove is cut off, the call can be repeated, and a Create
// can be undone.
func testSizeCrash(t *testing.T, path string) {
	p := openPool(t, local.Config{Path: path})
	carry := func(t *testing.T, v backends.Volume, name string, limit int64) {
		mkdir(t, path, name, 0o700)
		dir := openDir(t, filepath.Join(path, name))
		if err := host.SetProject(dir, number(t, v)); err != nil {
			t.Fatal(err)
		}
		if err := host.SetLimit(dir, number(t, v), limit); err != nil {
			t.Fatal(err)
		}
	}
	removed := func(v backends.Volume) string { return v.Handle + ".gone" }
	unfinished := func(v backends.Volume) string { return v.Handle + ".new" }
	earlier := func(v backends.Volume) string { return filepath.Join("work", filepath.Base(v.Handle)) }
	for _, state := range []struct {
		name    string
		prepare func(t *testing.T, v backends.Volume)
	}{
		{"create: nothing", func(*testing.T, backends.Volume) {}},
		{"create: made", func(t *testing.T, v backends.Volume) { mkdir(t, path, unfinished(v), 0o700) }},
		{"create: carries the project", func(t *testing.T, v backends.Volume) { carry(t, v, unfinished(v), 0) }},
		{"create: limited", func(t *testing.T, v backends.Volume) { carry(t, v, unfinished(v), size) }},
		{"create: complete", func(t *testing.T, v backends.Volume) { create(t, p, v) }},
		{"remove: moved", func(t *testing.T, v backends.Volume) { carry(t, v, removed(v), size) }},
		{"remove: released", func(t *testing.T, v backends.Volume) { carry(t, v, removed(v), 0) }},
		{"earlier remove: moved", func(t *testing.T, v backends.Volume) { carry(t, v, earlier(v), size) }},
		{"earlier create: limited", func(t *testing.T, v backends.Volume) { carry(t, v, earlier(v)+".new", size) }},
	} {
		t.Run(state.name, func(t *testing.T) {
			if strings.HasPrefix(state.name, "create") {
				v := plan(t, p, request())
				state.prepare(t, v)
				create(t, p, v)
				if q := quotaOf(t, path, v); q.Limit != size || q.Files != 1 {
					t.Errorf("created: got %+v, want the limit and one directory", q)
				}
				expectEntries(t, filepath.Join(path, "volumes"), filepath.Base(v.Handle))
				remove(t, p, v.Handle)
			}
			v := plan(t, p, request())
			state.prepare(t, v)
			remove(t, p, v.Handle)
			if q := quotaOf(t, path, v); q.Limit != 0 {
				t.Errorf("removed: got %+v, want no limit", q)
			}
			if strings.HasPrefix(state.name, "earlier") {
				expectEntries(t, filepath.Join(path, "work"))
			}
			expectEntries(t, filepath.Join(path, "volumes"))
		})
	}
}

// A project that somebody else has, or has set a limit for, is left alone.
func testSizeTaken(t *testing.T, path string) {
	p := openPool(t, local.Config{Path: path})
	root := openDir(t, path)
	const theirs = 3 << 20
	carry := func(t *testing.T, v backends.Volume, name string) {
		if err := host.SetProject(openDir(t, hosttest.Subdir(t, path, name)), number(t, v)); err != nil {
			t.Fatal(err)
		}
	}
	for name, prepare := range map[string]func(t *testing.T, v backends.Volume){
		"limit without files": func(*testing.T, backends.Volume) {},
		"files":               func(t *testing.T, v backends.Volume) { carry(t, v, "theirs "+v.Handle) },
		"taken by both at the same time": func(t *testing.T, v backends.Volume) {
			carry(t, v, "theirs "+v.Handle)
			carry(t, v, v.Handle+".new")
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := plan(t, p, request())
			prepare(t, v)
			if err := host.SetLimit(root, number(t, v), theirs); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := p.Create(t.Context(), v); !errors.Is(err, backends.ErrUnavailable) {
					t.Errorf("got %v, want %v", err, backends.ErrUnavailable)
				}
			}
			remove(t, p, v.Handle) // as dvold does after a failed Create
			if q := quotaOf(t, path, v); q.Limit != theirs {
				t.Errorf("got %+v, want their limit", q)
			}
		})
	}
}

// Removal of one volume leaves the limit of another, even if a container had
// its own carry the project of that.
func testSizeRemoveLeaves(t *testing.T, path string) {
	p, v := sized(t, path)
	other := plan(t, p, request())
	create(t, p, other)
	if err := host.SetProject(openDir(t, filepath.Join(path, v.Handle)), number(t, other)); err != nil {
		t.Fatal(err)
	}
	remove(t, p, v.Handle)
	if q := quotaOf(t, path, other); q.Limit != size {
		t.Errorf("the other: got %+v, want its limit", q)
	}
	if q := quotaOf(t, path, v); q.Limit != 0 {
		t.Errorf("the removed: got %+v, want no limit", q)
	}
	remove(t, p, other.Handle)
}
