package volumes

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination"
)

// slowKeys is a coordinator that takes long for a list of keys, and for nothing
// else.
type slowKeys struct {
	coordination.Coordinator
	takes time.Duration
}

func (s slowKeys) Keys(ctx context.Context, prefix string) ([]string, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(s.takes):
		return s.Coordinator.Keys(ctx, prefix)
	}
}

// TestSlowList: a list of very many volumes may take longer than a coordinator
// may be silent.
func TestSlowListDoesNotMakeTheCoordinatorAway(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	h1, h2 := f.node("h1"), f.node("h2")
	h1.must(h2.Create(t.Context(), "elsewhere", nil))
	h1.line.mu.Lock()
	store := h1.line.store
	h1.line.mu.Unlock()
	h1.line.connect(slowKeys{store, 3 * patience / 2})
	names, err := h1.Names(t.Context())
	if err != nil || !slices.Equal(names, []string{"elsewhere"}) {
		t.Errorf("names = %v, %v; want the volume that another host made", names, err)
	}
	if err := h1.reach.err(); err != nil {
		t.Errorf("the coordinator counts as away: %v", err)
	}
	h1.must(h1.Create(t.Context(), "new", nil))
}
