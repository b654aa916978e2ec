package nfs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dvol/dvold/backends"
)

// Mounts that hang are left behind, at most so many, and never two at one point.
func TestMountsThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		release := make(chan struct{})
		m := mounter{call: func(string, string, bool, string) error {
			calls.Add(1)
			<-release
			return nil
		}}
		mount := func(point string) error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return m.mount(ctx, "nas:/", point, false, "")
		}
		for i := range 2 * maxHanging {
			point := fmt.Sprintf("/nowhere/%d", i)
			for range 2 {
				if err := mount(point); !errors.Is(err, backends.ErrUnavailable) {
					t.Errorf("mount %d: got %v", i, err)
				}
			}
		}
		if n := calls.Load(); n != maxHanging {
			t.Errorf("%d calls were made, want %d", n, maxHanging)
		}
		close(release)
		synctest.Wait()
		if err := mount("/nowhere/0"); err != nil {
			t.Errorf("when they have ended: got %v", err)
		}
	})
}

// However many are mounted at once, those that don't hang succeed.
func TestMountsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mounter{call: func(string, string, bool, string) error {
			time.Sleep(30 * time.Millisecond)
			return nil
		}}
		var all sync.WaitGroup
		for i := range 4 * maxHanging {
			all.Go(func() {
				if err := m.mount(t.Context(), "nas:/", fmt.Sprintf("/nowhere/%d", i), false, ""); err != nil {
					t.Errorf("mount %d: %v", i, err)
				}
			})
		}
		all.Wait()
	})
}
