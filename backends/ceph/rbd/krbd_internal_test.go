//go:build ceph && cgo

package rbd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
)

// What the kernel maps when nobody waits for it any more is taken away before the image is mapped
// again; another image does not wait for it.
func TestLateAdd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a adds
		var mu sync.Mutex
		var did []string
		do := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			did = append(did, what)
		}
		add := func(what string, takes time.Duration) func() error {
			return func() error {
				time.Sleep(takes)
				do(what)
				return nil
			}
		}
		undo := func() { do("undone") }
		call := func(image string, add func() error, wait time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			return a.call(ctx, image, add, undo)
		}
		if err := call("a", add("a late", 10*time.Second), time.Second); !errors.Is(err, backends.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one that hangs: got %v", err)
		}
		if err := call("a", add("a never", 0), time.Second); !errors.Is(err, backends.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the same again, meanwhile: got %v", err)
		}
		if err := call("b", add("b", 0), time.Second); err != nil {
			t.Errorf("another, meanwhile: %v", err)
		}
		if err := call("a", add("a", 0), time.Minute); err != nil {
			t.Errorf("again, for as long as it takes: %v", err)
		}
		if got, want := fmt.Sprint(did), "[b a late undone a]"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := a.call(ended, "a", add("a never", 0), undo); !errors.Is(err, context.Canceled) || len(did) != 4 {
			t.Errorf("by who has left: got %v, and did %v", err, did)
		}
	})
}

// Those that hang, and that nobody waits for, are few; those that somebody waits for don't count.
func TestManyHangingAdds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a adds
		release := make(chan struct{})
		hang := func() error { <-release; return errors.New("no") }
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		const many = 2 * maxHanging
		for n := range many {
			go func() { ended <- a.call(ctx, fmt.Sprint(n), hang, nil) }()
		}
		synctest.Wait()
		if err := a.call(t.Context(), "well", func() error { return nil }, nil); err != nil {
			t.Errorf("while others are waited for: %v", err)
		}
		cancel()
		for range many {
			if err := <-ended; !errors.Is(err, backends.ErrUnavailable) {
				t.Errorf("one that hangs: got %v", err)
			}
		}
		called := false
		if err := a.call(t.Context(), "well", func() error { called = true; return nil }, nil); !errors.Is(err, backends.ErrUnavailable) || called {
			t.Errorf("while too many hang: got %v, called %t", err, called)
		}
		close(release)
		synctest.Wait()
		if err := a.call(t.Context(), "well", func() error { return nil }, nil); err != nil {
			t.Errorf("when they have ended: %v", err)
		}
	})
}

// A device is the pool's by a monitor that it was mapped with, however either calls it.
func TestKnows(t *testing.T) {
	for _, test := range []struct {
		own    []string
		mapped string
		want   bool
	}{
		{[]string{"fd00::1"}, "[fd00::1]:6789", true},
		{[]string{"10.0.0.1", "10.0.0.2"}, "10.0.0.9:6789,(1)10.0.0.2:6789", true},
		{[]string{"10.0.0.1:3300"}, "10.0.0.1", true},
		{[]string{"localhost"}, "127.0.0.1:6789", true},
		{[]string{"10.0.0.1"}, "10.0.0.11:6789", false},
		{[]string{"monitor.invalid", "10.0.0.1"}, "10.0.0.1:6789", true},
	} {
		k := krbd{config: Config{Cluster: ceph.Config{Monitors: test.own}}}
		if got, err := k.knows(test.mapped); err != nil || got != test.want {
			t.Errorf("%v, mapped with %s: got %t, %v", test.own, test.mapped, got, err)
		}
	}
	// Who can't tell doesn't say that it is another's.
	k := krbd{config: Config{Cluster: ceph.Config{Monitors: []string{"monitor.invalid"}}}}
	if got, err := k.knows("10.0.0.1:6789"); got || !errors.Is(err, backends.ErrUnavailable) {
		t.Errorf("by a name that is not known: got %t, %v", got, err)
	}
}

// Without the addresses of monitors the kernel maps nothing, and is not taken unless it is asked for.
func TestMapperWithoutMonitors(t *testing.T) {
	c := DefaultConfig()
	c.Cluster.Conf = "/etc/ceph/ceph.conf"
	m, err := newMapper(c, t.TempDir(), slog.New(slog.DiscardHandler))
	if _, ok := m.(*fuseMapper); err != nil || !ok {
		t.Errorf("got %T, %v", m, err)
	}
	c.Mapper = "krbd"
	if err := c.Validate(); err == nil {
		t.Error("krbd with a ceph.conf is valid")
	}
	if _, err := os.Stat(kernelMapper); err != nil {
		t.Log("this kernel has no krbd: by default it is fuse in any case")
	}
}
