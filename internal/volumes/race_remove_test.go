package volumes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestRemoveIsRefusedWhileAnotherHostHoldsTheVolume(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "data", nil))
	h1.mount("data", "c1", me(t))
	wantError(t, "remove", h2.Remove(t.Context(), "data", nil), ErrInUse, `"h1"`, "stop its containers there")
	if got := h2.keys("intents/"); len(got) > 0 {
		t.Errorf("the refusal left %v", got)
	}
	h1.must(h1.Unmount(t.Context(), "data", "c1"))
	h2.must(h2.Remove(t.Context(), "data", nil))
	if _, err := h1.Get(t.Context(), "data"); !errors.Is(err, ErrNotFound) {
		t.Errorf("get on the other host: %v", err)
	}
}

func TestRemoveIsRefusedWhileASilentHostHoldsTheVolumeUntilItIsForgotten(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "data", nil))
	h1.must(h1.Create(t.Context(), "other", nil))
	h1.mount("data", "c1", me(t))
	h1.mount("other", "c1", me(t))
	wantError(t, "forget while it is live", h2.Forget(t.Context(), "h1"), ErrInUse)
	h1.die()
	wantError(t, "remove", h2.Remove(t.Context(), "data", nil), ErrInUse, `"h1"`, "silent", "dvold host forget h1")
	h2.must(h2.Forget(t.Context(), "h1"))
	h2.must(h2.Remove(t.Context(), "data", nil))
	wantError(t, "forget again", h2.Forget(t.Context(), "h1"), ErrInvalid)

	h1.start() // it was not off after all
	h1.eventually("it holds again what still exists", func() bool {
		held := h1.heldBy("h1")
		return len(held) == 1 && held[0] == "other"
	})
	wantError(t, "remove what the host that came back has", h2.Remove(t.Context(), "other", nil), ErrInUse, `"h1"`)
	if _, err := h1.Mount(t.Context(), "data", "c2", me(t)); !errors.Is(err, ErrNotFound) {
		t.Errorf("mount of what was removed: %v", err)
	}
	h1.must(h1.Unmount(t.Context(), "data", "c1"))
	h1.must(h1.Unmount(t.Context(), "other", "c1"))
	h1.settled()
	h2.must(h2.Remove(t.Context(), "other", nil))
}

func TestForgottenHostComesBackUndrained(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h2.must(h2.Drain(t.Context(), "h1", true))
	h1.die()
	h2.must(h2.Forget(t.Context(), "h1"))
	for _, prefix := range []string{"drains/", "pools/a/h1", "pools/b/h1", "holdings/h1/"} {
		if got := h2.keys(prefix); len(got) > 0 {
			t.Errorf("a forgotten host left %v", got)
		}
	}
}

func TestHostsThatRemoveOneVolumeAllSucceed(t *testing.T) {
	f := newFleet(t, "h1", "h2", "h3")
	for i := range 10 {
		name := fmt.Sprintf("data%d", i)
		f.nodes[0].must(f.nodes[0].Create(t.Context(), name, nil))
		for host, err := range f.together(func(n *node) error { return n.Remove(t.Context(), name, nil) }) {
			if err != nil {
				t.Errorf("%s: %v", host, err)
			}
		}
		trash, err := f.nodes[0].Trash(t.Context())
		if err != nil || len(trash) != i+1 {
			t.Fatalf("the trash holds %v, %v", trash, err)
		}
		for _, n := range f.nodes {
			if names, err := n.Names(t.Context()); err != nil || len(names) != 0 {
				t.Errorf("%s lists %v, %v after its removal", n.name, names, err)
			}
		}
	}
}

// TestRemoveAndMount: one of the two wins, whichever comes first.
func TestRemoveAndMountElsewhereNeverBothSucceed(t *testing.T) {
	f := newFleet(t, "h1", "h2", "h3")
	h1 := f.node("h1")
	outcomes := make(map[string]int)
	for i := range 40 {
		name := fmt.Sprintf("data%d", i)
		h1.must(h1.Create(t.Context(), name, nil))
		var wg sync.WaitGroup
		var removed, mounted2, mounted3 error
		wg.Go(func() {
			time.Sleep(time.Duration(i%8) * time.Millisecond)
			removed = h1.Remove(t.Context(), name, nil)
		})
		wg.Go(func() { _, mounted2 = f.node("h2").Mount(t.Context(), name, "c1", me(t)) })
		wg.Go(func() { _, mounted3 = f.node("h3").Mount(t.Context(), name, "c1", me(t)) })
		wg.Wait()
		for host, err := range map[string]error{"h2": mounted2, "h3": mounted3} {
			if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrUnavailable) {
				t.Errorf("mount on %s: %v", host, err)
			}
			if err == nil && removed == nil {
				t.Fatalf("%s was told that it has %s mounted, and h1 that it is removed", host, name)
			}
		}
		if removed != nil {
			wantError(t, "remove", removed, ErrInUse)
			outcomes["refused"]++
		} else {
			outcomes["removed"]++
		}
		for _, n := range f.nodes[1:] {
			n.must(n.Unmount(t.Context(), name, "c1"))
		}
	}
	t.Log(outcomes)
	for _, n := range f.nodes {
		n.settled()
	}
}

func TestDeadRemoversIntentStopsNobody(t *testing.T) {
	for _, step := range []string{"remove: intent written", "remove: nobody elsewhere uses it"} {
		t.Run(step, func(t *testing.T) {
			f := newFleet(t, "h1", "h2")
			h1, h2 := f.node("h1"), f.node("h2")
			h1.must(h1.Create(t.Context(), "data", nil))
			die := func(name string) {
				h1.dieDuring(step, func(ctx context.Context) error { return h1.Remove(ctx, name, nil) })
			}
			die("data")
			h2.mount("data", "c1", me(t))
			h2.must(h2.Unmount(t.Context(), "data", "c1"))
			h2.settled()
			h1.start()
			die("data")
			h2.must(h2.Remove(t.Context(), "data", nil))
			if trash, err := h2.Trash(t.Context()); err != nil || len(trash) != 1 {
				t.Errorf("in the trash: %v, %v", trash, err)
			}
		})
	}
}

func TestMountWaitsForALiveRemoverAndThenSucceedsOrFailsCleanly(t *testing.T) {
	f := newFleet(t, "h1", "h2", "h3")
	h1, h2, h3 := f.node("h1"), f.node("h2"), f.node("h3")
	for _, name := range []string{"kept", "lost"} {
		h1.must(h1.Create(t.Context(), name, nil))
	}
	h3.mount("kept", "c1", me(t)) // so that its removal is refused
	for name, want := range map[string]error{"kept": nil, "lost": ErrNotFound} {
		intended, waits := make(chan struct{}), make(chan struct{})
		h1.at("remove: intent written", func() { close(intended); <-waits })
		removed, mounted := make(chan error, 1), make(chan error, 1)
		go func() { removed <- h1.Remove(t.Context(), name, nil) }()
		<-intended
		looks := h2.line.count("Host")
		go func() {
			_, err := h2.Mount(t.Context(), name, "c1", me(t))
			mounted <- err
		}()
		h2.eventually("the mount waits", func() bool { return h2.line.count("Host") > looks+1 })
		close(waits)
		if err := <-mounted; !errors.Is(err, want) {
			t.Errorf("%s: mount: %v, want %v", name, err, want)
		}
		t.Log(name, "removed:", <-removed)
		h2.must(h2.Unmount(t.Context(), name, "c1"))
		h2.settled()
	}
}

// TestRemoverThatLostItsSession: others took its intent back and hold the
// volume, so it must not remove it any more.
func TestRemoverThatLostItsSessionRemovesNothing(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h1.Create(t.Context(), "data", nil))
	h1.at("remove: nobody elsewhere uses it", func() {
		before := h1.stayNow()
		h1.must(h1.line.loseSession())
		h1.eventually("h1 has joined again", func() bool { return h1.stayNow() > before })
		if _, err := h2.Mount(context.Background(), "data", "c1", me(t)); err != nil {
			t.Error(err)
		}
	})
	wantError(t, "remove", h1.Remove(t.Context(), "data", nil), ErrUnavailable)
	if _, err := h2.Get(t.Context(), "data"); err != nil {
		t.Errorf("the volume that h2 holds: %v", err)
	}
	h2.must(h2.Unmount(t.Context(), "data", "c1"))
	h2.settled()
	h1.must(h1.Remove(t.Context(), "data", nil))
}
