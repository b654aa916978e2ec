package volumes

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/dvol/dvold/coordination"
)

// TestLostAnswers has the answer to each commit of each call get lost: the call
// may fail, but a repetition succeeds, and nothing is left over.
func TestCallWhoseAnswerWasLostCanBeRepeatedAndLeavesNothing(t *testing.T) {
	type call struct {
		prepare func(n *node)
		run     func(ctx context.Context, n *node) error
		data    int      // volumes' directories in the end
		held    []string // by h1
	}
	made := func(n *node) { n.must(n.Create(context.Background(), "data", nil)) }
	mounted := func(n *node) {
		made(n)
		n.mount("data", "c1", me(n.t))
	}
	calls := map[string]call{
		"create": {func(*node) {}, func(ctx context.Context, n *node) error { return n.Create(ctx, "data", nil) }, 1, nil},
		"mount": {made, func(ctx context.Context, n *node) error {
			_, err := n.Mount(ctx, "data", "c1", me(n.t))
			return err
		}, 1, []string{"data"}},
		"unmount": {mounted, func(ctx context.Context, n *node) error { return n.Unmount(ctx, "data", "c1") }, 1, nil},
		"remove":  {made, func(ctx context.Context, n *node) error { return n.Remove(ctx, "data", nil) }, 1, nil},
		"set access": {made, func(ctx context.Context, n *node) error {
			_, err := n.SetAccess(ctx, "data", AccessReadOnly)
			return err
		}, 1, nil},
		"resize": {made, func(ctx context.Context, n *node) error {
			_, err := n.Resize(ctx, "data", 1<<20)
			return err
		}, 1, nil},
		"purge": {func(n *node) {
			made(n)
			n.must(n.Remove(context.Background(), "data", nil))
		}, func(ctx context.Context, n *node) error {
			_, err := n.Purge(ctx, "data")
			return ignore(err, ErrNotFound) // is purged
		}, 0, nil},
		"restore": {func(n *node) {
			made(n)
			n.must(n.Remove(context.Background(), "data", nil))
		}, func(ctx context.Context, n *node) error {
			_, err := n.Restore(ctx, "data", "")
			return ignore(err, ErrNotFound) // is restored
		}, 1, nil},
	}
	for name, c := range calls {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, "h1", "h2")
			for commit := 1; ; commit++ {
				if commit > 10 {
					t.Fatal("it commits without end")
				}
				h1, h2 := f.node("h1"), f.node("h2")
				c.prepare(h1)
				h1.settled()
				lost := h1.line.loseAnswer(commit, about("data"))
				err := c.run(t.Context(), h1)
				if !lost() {
					h1.line.loseAnswer(1, func([]coordination.Op) bool { return false })
					h1.must(err)
					f.clean(t)
					return
				}
				t.Logf("commit %d: %v", commit, err)
				if err != nil && !errors.Is(err, ErrUnavailable) {
					t.Errorf("commit %d: got error %v, want ErrUnavailable", commit, err)
				}
				if name != "unmount" {
					if err := c.run(t.Context(), h1); err != nil {
						t.Errorf("commit %d: again: %v", commit, err)
					}
				}
				h1.settled()
				if got := f.data(); len(got) != c.data {
					t.Errorf("commit %d: the pool holds %v", commit, got)
				}
				if got := h2.heldBy("h1"); len(got) != len(c.held) {
					t.Errorf("commit %d: the records say that h1 holds %v, want %v", commit, got, c.held)
				}
				f.clean(t)
			}
		})
	}
}

// clean removes the volume "data" and all trash, by another host than the one
// that made it.
func (f *fleet) clean(t *testing.T) {
	t.Helper()
	h1, h2 := f.node("h1"), f.node("h2")
	for range 3 {
		h1.must(h1.Unmount(t.Context(), "data", "c1"))
	}
	h1.settled()
	h2.must(h2.Remove(t.Context(), "data", nil))
	trash, err := h2.Trash(t.Context())
	h2.must(err)
	for _, v := range trash {
		_, err := h2.Purge(t.Context(), v.ID)
		h2.must(err)
	}
	if got := f.data(); len(got) > 0 {
		t.Errorf("the pool holds %v in the end", got)
	}
}

// TestIntentWithoutAnAnswer: its host lives, so others would wait for it.
func TestIntentWhoseAnswerWasLostStopsOthersForSecondsAtMost(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.line.loseAnswer(1, about("intents/data"))
	wantError(t, "create", h1.Create(t.Context(), "data", nil), ErrUnavailable)
	h1.settled()
	h2.must(h2.Create(t.Context(), "data", nil))
	h1.line.loseAnswer(1, about("intents/data"))
	wantError(t, "remove", h1.Remove(t.Context(), "data", nil), ErrUnavailable)
	h1.settled()
	h2.mount("data", "c1", me(t))
	h2.must(h2.Unmount(t.Context(), "data", "c1"))
}

// The commit that makes a volume is only slow, and its host has given up on the answer. Whenever it
// happens after all, there is either a volume with its data, or neither.
func TestCommitThatComesLateMakesNoVolumeWithoutData(t *testing.T) {
	for name, c := range map[string]struct {
		step  string // after which it comes; or before the next commit
		there bool
	}{
		"before the undoing":      {"", true},
		"once the undoing begins": {"undo create: intent changed", false},
		"once the data is gone":   {"undo create: storage removed", false},
		"after all":               {"undo create: record removed", false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, "h1", "h2")
			h1, h2 := f.node("h1"), f.node("h2")
			land := h1.line.holdUp(c.step == "", func(ops []coordination.Op) bool {
				return slices.ContainsFunc(ops, func(op coordination.Op) bool {
					return op.Kind == coordination.OpPut && op.Record.Key == volumeKey("data")
				})
			})
			var late error
			h1.at(c.step, func() { late = land() })
			wantError(t, "create", h1.Create(t.Context(), "data", nil), ErrUnavailable)
			h1.settled()
			if c.step != "" && !errors.Is(late, coordination.ErrConflict) {
				t.Errorf("the late commit ended with %v, want ErrConflict", late)
			}
			_, err := h2.Get(t.Context(), "data")
			if there := err == nil; there != c.there || !there && !errors.Is(err, ErrNotFound) {
				t.Errorf("get: %v", err)
			}
			if got := f.data(); (len(got) == 1) != c.there {
				t.Errorf("the pool holds %v", got)
			}
			h2.must(h2.Create(t.Context(), "data", nil))
			h2.write(h2.mount("data", "c1", me(t)), "f", "precious")
			h2.must(h2.Unmount(t.Context(), "data", "c1"))
		})
	}
}

// That a create is to be undone may itself be said late: it is undone all the same, and at once.
func TestUndoingThatIsAnnouncedLateIsGoneOnWith(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	ctx, leave := context.WithCancel(t.Context())
	h1.at("create: described", leave)
	h1.line.holdUp(true, func(ops []coordination.Op) bool {
		return ops[0].Kind == coordination.OpPut && ops[0].Record.Key == intentKey("data") && ops[0].Record.Version != 0
	})
	wantError(t, "create", h1.Create(ctx, "data", nil), ErrUnavailable)
	h1.settled()
	if got := f.data(); len(got) > 0 {
		t.Errorf("the pool holds %v", got)
	}
	h2.must(h2.Create(t.Context(), "data", nil))
}

// An intent that was undone by others tells nothing of a volume that came of it, was removed and
// has another name by now.
func TestVolumeThatWasRenamedSinceIsNoLeftOver(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	var in intent
	h1.at("create: described", func() {
		var err error
		in, err = h1.loadIntent(context.Background(), "data")
		h1.must(err)
	})
	h1.must(h1.Create(t.Context(), "data", nil))
	h2.must(h2.Remove(t.Context(), "data", nil))
	_, err := h2.Restore(t.Context(), "data", "other")
	h2.must(err)
	h1.must(h1.abandon(t.Context(), in)) // as one does whose answer was lost
	h2.mount("other", "c1", me(t))
	h2.must(h2.Unmount(t.Context(), "other", "c1"))
}

// holdUp has the first commit from now that picks picks report ErrUnknown, as
// when an agent is frozen, and happen when land is called, or just before the
// next commit if soon says so. land tells what became of it.
func (l *line) holdUp(soon bool, picks func(ops []coordination.Op) bool) (land func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slow, l.landSoon = picks, soon
	return l.land
}

// land has the commit that is held up happen, if there is one.
func (l *line) land() error {
	l.mu.Lock()
	late := l.late
	l.late = nil
	l.mu.Unlock()
	if late == nil {
		return nil
	}
	return late()
}

// heldUp holds a commit up, if it is the one to be held up.
func (l *line) heldUp(s coordination.Session, ops []coordination.Op) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.slow == nil || !l.slow(ops) {
		return false
	}
	l.slow = nil
	l.late = func() error {
		_, err := s.Commit(context.Background(), ops...)
		return err
	}
	return true
}

// overtaken has what is held up happen now if it is to come before the next commit.
func (l *line) overtaken() {
	l.mu.Lock()
	soon := l.landSoon
	l.mu.Unlock()
	if soon {
		_ = l.land()
	}
}
