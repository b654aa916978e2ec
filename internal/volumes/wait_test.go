package volumes

import (
	"context"
	"slices"
	"testing"
	"time"
)

// An owner that has answered, and dies after that, is found out by the hint that its machine is
// down, whichever of the two comes first, long before its session ends. One that goes on to answer
// keeps its volume.
func TestOwnerThatAnsweredOnceIsAskedAgainOnceItIsSuspect(t *testing.T) {
	for name, c := range map[string]struct {
		suspectFirst, dies bool
	}{
		"it dies and is suspect":        {false, true},
		"it is suspect and dies":        {true, true},
		"it is suspect and goes on":     {true, false},
		"it goes on, though is suspect": {false, false},
	} {
		t.Run(name, func(t *testing.T) {
			f, all := newFencedFleet(t, "h1", "h2")
			h1, h2 := f.node("h1"), f.node("h2")
			h1.must(h1.Create(t.Context(), "db", map[string]string{"access": "exclusive", "mount_wait": "15s"}))
			target := h1.mount("db", "c1", me(t))
			if c.suspectFirst {
				h2.line.suspects("h1")
			}
			got := make(chan error, 1)
			go func() {
				_, err := h2.Mount(context.Background(), "db", "c1", me(t))
				got <- err
			}()
			h2.eventually("h1 has answered", func() bool { return len(h2.answersOf(h1)) > 0 })
			began := time.Now()
			if c.dies {
				h1.line.fail(hung)
			}
			h2.line.suspects("h1")
			err := <-got
			if !c.dies {
				wantError(t, "mount", err, ErrInUse, "a container uses it there")
				h1.wantOwner("db", "h1", 1)
				if !h1.mounted(target) || len(all.log()) > 0 {
					t.Errorf("mounted: %t; %v", h1.mounted(target), all.log())
				}
				return
			}
			h2.must(err)
			if took := time.Since(began); took > 12*time.Second {
				t.Errorf("it took %v", took)
			}
			if !slices.Contains(all.log(), "fence h1") {
				t.Errorf("not fenced: %v", all.log())
			}
			h1.heard()
			h1.eventually("h1 gives up what it lost", func() bool { return !h1.mounted(target) && len(h1.mountsNow()) == 0 })
			h2.wantOwner("db", "h2", 2)
		})
	}
}

// answersOf are those of a host to the requests that there are.
func (n *node) answersOf(owner *node) (answers []string) {
	n.t.Helper()
	stored, err := n.coord.List(context.Background(), requestsTo(owner.name))
	n.must(err)
	for _, s := range stored {
		var q request
		n.must(unmarshal("request", s.Value, recordSchema, &q))
		if q.Answer != "" {
			answers = append(answers, q.Answer)
		}
	}
	return answers
}
