package volumes

import (
	"testing"
	"time"

	"github.com/dvol/dvold/internal/host"
)

// TestUses is HAZARDS 20: what Docker sends for one mount ID, and how often
// the volume is in use after each call.
func TestUses(t *testing.T) {
	old, restarted := host.Process{PID: 10, Start: 1}, host.Process{PID: 11, Start: 2}
	type call struct {
		engine host.Process // zero PID: Unmount
		id     string
		count  int // of id, afterwards
	}
	tests := map[string][]call{
		"one container": {
			{old, "a", 1}, {id: "a", count: 0},
		},
		"docker cp while the container runs": {
			{old, "a", 1}, {old, "a", 2}, {id: "a", count: 1}, {id: "a", count: 0},
		},
		"two containers": {
			{old, "a", 1}, {old, "b", 1}, {id: "a", count: 0}, {id: "b", count: 0},
		},
		"engine crashed, container started again, then stopped": {
			{old, "a", 1}, {restarted, "a", 1}, {id: "a", count: 0},
		},
		"engine crashed during docker cp": {
			{old, "a", 1}, {old, "a", 2}, {restarted, "a", 1}, {id: "a", count: 0},
		},
		"new engine, container started again, then docker cp": {
			{old, "a", 1}, {restarted, "a", 1}, {restarted, "a", 2}, {id: "a", count: 1}, {id: "a", count: 0},
		},
		"process number used again by a new engine": {
			{host.Process{PID: 10, Start: 1}, "a", 1}, {host.Process{PID: 10, Start: 9}, "a", 1},
		},
		"unmount of the unknown": {
			{id: "x", count: 0}, {old, "a", 1}, {id: "x", count: 0}, {id: "a", count: 0}, {id: "a", count: 0},
		},
	}
	for name, calls := range tests {
		t.Run(name, func(t *testing.T) {
			var e entry
			for i, c := range calls {
				before := len(e.Uses)
				next := e.drop(c.id)
				if c.engine.PID != 0 {
					next = e.add(c.id, c.engine, time.Now())
				}
				if len(e.Uses) != before {
					t.Fatalf("call %d changed the entry it was made from", i)
				}
				e = next
				if got := e.Uses[c.id].Count; got != c.count {
					t.Errorf("call %d: count of %s is %d, want %d", i, c.id, got, c.count)
				}
			}
		})
	}
}
