//go:build ceph && cgo

package rbd

import (
	"sync"

	"github.com/dvol/dvold/internal/upkeep"
)

// turns lets one at a time do something with an image: a call, or who sees to
// mappings.
type turns struct {
	mu sync.Mutex // guards the field below
	by map[string]upkeep.Turn
}

// of is an image's turn.
func (t *turns) of(i image) upkeep.Turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.by == nil {
		t.by = make(map[string]upkeep.Turn)
	}
	turn, ok := t.by[i.name]
	if !ok {
		turn = upkeep.NewTurn()
		t.by[i.name] = turn
	}
	return turn
}
