package backendtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
)

// soon is how long a call may take once its context has ended.
const soon = 10 * time.Second

func testReopen(t *testing.T, s *suite) {
	first := s.fixture.Open(t)
	s.Backend = first
	handle, mountedLater := s.create(t), s.create(t)
	target := s.mount(t, handle)
	write(t, target, "file", "data")
	closeBackend(t, first)
	expectFile(t, target, "file", "data")

	s.Backend = open(t, s.fixture)
	if _, err := s.Stat(t.Context(), handle); err != nil {
		t.Error(err)
	}
	if err := s.Mount(t.Context(), handle, target, backends.MountOptions{}); err != nil {
		t.Errorf("mount again: %v", err)
	}
	expectFile(t, target, "file", "data")
	expect(t, "remove", s.Remove(t.Context(), handle), backends.ErrInUse)
	s.unmount(t, handle, target)
	if err := s.Remove(t.Context(), handle); err != nil {
		t.Error(err)
	}
	expectEmpty(t, s.mount(t, mountedLater))
}

func testConcurrent(t *testing.T, s *suite) {
	const volumes = 8
	var all sync.WaitGroup
	for range volumes {
		id, target := s.id(), s.target(t)
		all.Go(func() {
			if err := s.live(t.Context(), id, target); err != nil {
				t.Errorf("volume %s: %v", id, err)
			}
		})
	}
	all.Wait()
}

// live leads a volume through its life, twice each step.
func (s *suite) live(ctx context.Context, id, target string) error {
	v, err := s.Plan(ctx, backends.Request{ID: id, Size: s.size()})
	if err != nil {
		return err
	}
	file := filepath.Join(target, "file")
	steps := []func() error{
		func() error { return s.Create(ctx, v) },
		func() error { return s.Mount(ctx, v.Handle, target, backends.MountOptions{}) },
		func() error { return os.WriteFile(file, []byte(id), 0o600) },
		func() error { _, err := s.Stat(ctx, v.Handle); return err },
		func() error {
			if got, err := os.ReadFile(file); err != nil || string(got) != id {
				return fmt.Errorf("got %q, %v, want %q", got, err, id)
			}
			return nil
		},
		func() error { return s.unmountIdle(ctx, v.Handle, target) },
		func() error { return s.Remove(ctx, v.Handle) },
	}
	for i, step := range steps {
		if err := cmp.Or(step(), step()); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// unmountIdle unmounts what this process has had open: a program that was just being started may have that for
// a moment, too.
func (s *suite) unmountIdle(ctx context.Context, handle, target string) error {
	for end := time.Now().Add(soon); ; time.Sleep(10 * time.Millisecond) {
		err := s.Unmount(ctx, handle, target)
		if !errors.Is(err, backends.ErrInUse) || time.Now().After(end) {
			return err
		}
	}
}

// Each method, called with a context that has ended, does its work or says
// so; called again it does it.
func testCancelled(t *testing.T, s *suite) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	r := backends.Request{ID: s.id(), Size: s.size()}
	v := s.plan(t, r)
	target := s.target(t)
	try := func(what string, call func(context.Context) error) {
		t.Helper()
		start := time.Now()
		expect(t, what, call(ended), nil, context.Canceled)
		if took := time.Since(start); took > soon {
			t.Errorf("%s returned after %v", what, took)
		}
		if err := call(t.Context()); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	try("plan", func(ctx context.Context) error { _, err := s.Plan(ctx, r); return err })
	try("create", func(ctx context.Context) error { return s.Create(ctx, v) })
	try("stat", func(ctx context.Context) error { _, err := s.Stat(ctx, v.Handle); return err })
	try("mount", func(ctx context.Context) error {
		return s.Mount(ctx, v.Handle, target, backends.MountOptions{})
	})
	write(t, target, "file", "data")
	try("unmount", func(ctx context.Context) error { return s.Unmount(ctx, v.Handle, target) })
	expectFile(t, s.mount(t, v.Handle), "file", "data")

	w := s.plan(t, backends.Request{})
	try("create", func(ctx context.Context) error { return s.Create(ctx, w) })
	try("remove", func(ctx context.Context) error { return s.Remove(ctx, w.Handle) })
	_, err := s.Stat(t.Context(), w.Handle)
	expect(t, "stat of a removed volume", err, backends.ErrNotFound)
}

// Calls are cut short at various moments, then repeated: from one at which they have
// hardly begun, with a storage that has much to do for them, too.
func testCutShort(t *testing.T, s *suite) {
	begin := time.Now()
	s.create(t)
	for after := max(20*time.Microsecond, time.Since(begin)/200); after < 3*time.Second; after *= 3 {
		v, target := s.plan(t, backends.Request{Size: s.size()}), s.target(t)
		cut := func(what string, call func(context.Context) error) error {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), after)
			defer cancel()
			err := call(ctx)
			expect(t, what, err, nil, context.DeadlineExceeded)
			return err
		}
		mount := func(ctx context.Context) error {
			return s.Mount(ctx, v.Handle, target, backends.MountOptions{})
		}
		create := func(ctx context.Context) error { return s.Create(ctx, v) }
		remove := func(ctx context.Context) error { return s.Remove(ctx, v.Handle) }

		_ = cut("create", create)
		if err := create(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := cut("mount", mount); err != nil && mounted(t, target) {
			t.Errorf("mount said %v and left a mount", err)
		}
		if err := mount(t.Context()); err != nil {
			t.Fatal(err)
		}
		expectEmpty(t, target)
		expectOwner(t, target, 0, 0, 0o755)
		write(t, target, "file", "data")
		s.unmount(t, v.Handle, target)
		_ = cut("remove", remove)
		if err := remove(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := s.Stat(t.Context(), v.Handle)
		expect(t, "stat of a removed volume", err, backends.ErrNotFound)
	}
}

// That the storage is away says nothing of what is in it: what is not found is lost
// to dvold, and what could be removed is forgotten. A call waits for the storage, or
// says so, unless this host knows enough. What is mounted can be unmounted even so, if
// it is not a file system of its own, which may have something to write.
func testUnavailable(t *testing.T, s *suite) {
	planned := s.plan(t, backends.Request{})
	asked, mountable, removable, inUse := s.create(t), s.create(t), s.create(t), s.create(t)
	target, used := s.target(t), ""
	if !s.fixture.Alone {
		used = s.mount(t, inUse)
	}
	var all sync.WaitGroup
	t.Cleanup(all.Wait) // once the storage is back
	s.takeAway(t)
	if used != "" {
		s.unmount(t, inUse, used)
	}

	ctx, cancel := context.WithTimeout(t.Context(), soon/2)
	defer cancel()
	calls := map[string]func() error{
		"create": func() error { return s.Create(ctx, planned) },
		"stat":   func() error { _, err := s.Stat(ctx, asked); return err },
		"mount":  func() error { return s.Mount(ctx, mountable, target, backends.MountOptions{}) },
		"remove": func() error { return s.Remove(ctx, removable) },
	}
	type result struct {
		what string
		err  error
	}
	results := make(chan result, len(calls))
	for what, call := range calls {
		all.Go(func() { results <- result{what, call()} })
	}
	late := time.After(soon)
	for range calls {
		select {
		case r := <-results:
			switch {
			case r.err == nil && (r.what == "stat" || r.what == "mount" && mounted(t, target)):
			case errors.Is(r.err, backends.ErrNotFound):
				t.Errorf("%s: got %v, as if the storage had answered", r.what, r.err)
			default:
				expect(t, r.what, r.err, backends.ErrUnavailable, context.DeadlineExceeded)
			}
		case <-late:
			t.Log("a call waits for the storage, in a system call that nothing ends")
			return
		}
	}
}
