package volumes

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestHostsThatPurgeOneVolumeDeleteItOnce(t *testing.T) {
	f := newFleet(t, "h1", "h2", "h3")
	h1 := f.node("h1")
	for i := range 10 {
		name := fmt.Sprintf("data%d", i)
		h1.must(h1.Create(t.Context(), name, nil))
		h1.must(h1.Remove(t.Context(), name, nil))
		succeeded := 0
		for host, err := range f.together(func(n *node) error { _, err := n.Purge(t.Context(), name); return err }) {
			switch {
			case err == nil:
				succeeded++
			case !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrUnavailable):
				t.Errorf("%s: %v", host, err)
			}
		}
		if got := f.data(); succeeded == 0 || len(got) > 0 || len(h1.keys("trash/")) > 0 {
			t.Fatalf("%d succeeded, the pool holds %v, the trash %v", succeeded, got, h1.keys("trash/"))
		}
	}
}

func TestPurgerIsLeftAloneWhileItLivesAndReplacedWhenItDied(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	for _, name := range []string{"data", "other"} {
		h1.must(h1.Create(t.Context(), name, nil))
		h1.must(h1.Remove(t.Context(), name, nil))
	}
	intended, purges := make(chan struct{}), make(chan struct{})
	h1.at("purge: intent written", func() { close(intended); <-purges })
	purged := make(chan error, 1)
	go func() { _, err := h1.Purge(context.Background(), "data"); purged <- err }()
	<-intended
	_, err := h2.Purge(t.Context(), "data")
	wantError(t, "purge elsewhere", err, ErrUnavailable, `"h1"`)
	_, err = h2.Restore(t.Context(), "data", "")
	wantError(t, "restore", err, ErrUnavailable, "being deleted")
	close(purges)
	h1.must(<-purged)

	h1.dieDuring("purge: intent written", func(ctx context.Context) error { _, err := h1.Purge(ctx, "other"); return err })
	h2.later(&h2.purgeable) // else it looks in a minute or two
	h2.eventually("the other host has purged it", func() bool { return len(f.data()) == 0 && len(h2.keys("trash/")) == 0 })
}

func TestNamesShowsOnesOwnChangesAtOnceAndOthersSoonAndAsksSeldom(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	lists := func(n *node, name string) bool {
		names, err := n.Names(t.Context())
		n.must(err)
		for _, got := range names {
			if got == name {
				return true
			}
		}
		return false
	}
	for i := range 20 {
		name := fmt.Sprintf("data%d", i)
		lists(h1, name)
		h1.must(h1.Create(t.Context(), name, nil))
		if !lists(h1, name) {
			t.Errorf("its own %s is missing", name)
		}
		begin := time.Now()
		h2.eventually("another host lists it", func() bool { return lists(h2, name) })
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("another host listed it after %v", took)
		}
		h1.must(h1.Remove(t.Context(), name, nil))
		if lists(h1, name) {
			t.Errorf("%s is still there after its removal", name)
		}
	}
	h1.line.connect(slowKeys{f.store, 100 * time.Millisecond})
	h1.names.changed()
	before := h1.line.count("Keys")
	done := make(chan error)
	for range 100 {
		go func() { _, err := h1.Names(context.Background()); done <- err }()
	}
	for range 100 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if asked := h1.line.count("Keys") - before; asked > 10 {
		t.Errorf("100 lists at once asked the coordinator %d times", asked)
	}
}

// Whoever restores a volume while another purges it is told so, and not that its name is taken.
func TestRestoreThatComesTooLateSaysWhy(t *testing.T) {
	for name, c := range map[string]struct {
		purge bool // to the end, or it has only begun
		want  error
		says  string
	}{
		"purged":  {true, ErrNotFound, "purged it just now"},
		"purging": {false, ErrUnavailable, "purging it"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, "h1", "h2")
			h1, h2 := f.node("h1"), f.node("h2")
			h1.must(h1.Create(t.Context(), "data", nil))
			h1.must(h1.Remove(t.Context(), "data", nil))
			purged, begun, end := make(chan error, 1), make(chan struct{}), make(chan struct{})
			h2.at("purge: intent written", func() {
				close(begun)
				if !c.purge {
					<-end
				}
			})
			h1.at("restore: data found", func() {
				go func() { _, err := h2.Purge(context.Background(), "data"); purged <- err }()
				<-begun
				if c.purge {
					h2.must(<-purged)
				}
			})
			_, err := h1.Restore(t.Context(), "data", "")
			wantError(t, "restore", err, c.want, c.says)
			close(end)
			if !c.purge {
				h2.must(<-purged)
			}
		})
	}
}
