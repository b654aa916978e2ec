package model

// findDeadEnd looks for a state out of which nobody gets to use the volume any
// more, even if nothing else goes wrong.
func (g *graph) findDeadEnd() {
	// Where the steps to node i come from is into[first[i]:first[i+1]].
	first := make([]int32, len(g.nodes)+1)
	for _, e := range g.edges {
		first[e.to]++
	}
	for i := range g.nodes {
		first[i+1] += first[i]
	}
	into := make([]int32, len(g.edges))
	for _, e := range g.edges {
		first[e.to]--
		into[first[e.to]] = e.from
	}
	hopeful := make([]bool, len(g.nodes))
	var next []int32
	for i, n := range g.nodes {
		if g.used(&n.state) {
			hopeful[i], next = true, append(next, int32(i))
		}
	}
	for len(next) > 0 {
		i := next[len(next)-1]
		next = next[:len(next)-1]
		for _, from := range into[first[i]:first[i+1]] {
			if !hopeful[from] {
				hopeful[from], next = true, append(next, from)
			}
		}
	}
	for i, ok := range hopeful {
		if !ok {
			g.bad, g.nodes[i].state.bad = int32(i), DeadEnd
			return
		}
	}
}

// used says whether the volume is in use in s, or can't be by the limits of w.
func (m *model) used(s *state) bool {
	a := &s.a
	if s.record.epoch == m.Epochs || m.Takers == 0 && a.stay == m.Stays {
		return true
	}
	if s.owns() {
		return a.phase == isHeld && a.stage == serving && a.mounted && !s.storage.fenced(a.identity)
	}
	return s.takers[0].progress == wrote || s.takers[1].progress == wrote
}

// Fastest returns how many ticks pass at least between a crash of A, just after
// it acquired the volume, and a taker's first write.
func Fastest(w World, r Rules) int {
	first := w.begin()
	first.powerOff()
	known := map[state]bool{first: true}
	for ticks, level := 0, []state{first}; len(level) > 0; ticks++ {
		var later []state
		m := model{World: w, Rules: r}
		m.visit = func(by label, s state) {
			switch {
			case known[s] || by.fault:
				return
			case by.what == tickLabel:
				later = append(later, s)
			default:
				level = append(level, s)
			}
			known[s] = true
		}
		for i := 0; i < len(level); i++ {
			if s := &level[i]; s.takers[0].progress == wrote || s.takers[1].progress == wrote {
				return ticks
			}
			m.steps(level[i])
		}
		level = later
	}
	return -1
}
