package model

import "hash/maphash"

// set finds states among nodes. A map would keep a second copy of each, and most
// of the time of a search goes into that.
type set struct {
	seed  maphash.Seed
	slots []int32 // 0, or 1 + the index of a node; at least half of them are 0
}

// find returns where the slot of a state is, or would be.
func (t *set) find(nodes []node, s *state) *int32 {
	if 2*len(nodes) >= len(t.slots) {
		t.grow(nodes)
	}
	mask := uint64(len(t.slots) - 1)
	for h := maphash.Comparable(t.seed, *s) & mask; ; h = (h + 1) & mask {
		slot := &t.slots[h]
		if *slot == 0 || nodes[*slot-1].state == *s {
			return slot
		}
	}
}

func (t *set) grow(nodes []node) {
	if t.slots == nil {
		t.seed = maphash.MakeSeed()
	}
	t.slots = make([]int32, max(1<<16, 4*len(t.slots)))
	for i := range nodes {
		*t.find(nodes[:i], &nodes[i].state) = int32(i + 1)
	}
}
