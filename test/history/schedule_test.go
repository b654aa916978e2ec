package history

import (
	"slices"
	"testing"
)

func TestSchedule(t *testing.T) {
	const hosts, volumes, n = 3, 3, 500
	faults := slices.Concat(OfHosts, OfCluster)
	all := Schedule(7, n, hosts, volumes, faults)
	text := func(rounds []Round) (lines []string) {
		for _, r := range rounds {
			lines = append(lines, r.String())
		}
		return lines
	}
	if !slices.Equal(text(all[:20]), text(Schedule(7, 20, hosts, volumes, faults))) {
		t.Error("the same seed gives other rounds")
	}
	if slices.Equal(text(all[:20]), text(Schedule(8, 20, hosts, volumes, faults))) {
		t.Error("another seed gives the same rounds")
	}
	seen := make(map[Fault]bool)
	moves := 0
	for _, r := range all {
		if len(r.Hosts) >= hosts {
			t.Errorf("%s: nobody is spared", r)
		}
		for _, f := range r.Hosts {
			seen[f] = true
		}
		seen[r.Cluster] = true
		for _, h := range r.Wants {
			if h < 0 || h > hosts || r.Hosts[h] != "" {
				t.Errorf("%s: h%d wants something", r, h)
			}
			if h != 0 {
				moves++
			}
		}
	}
	for _, f := range faults {
		if !seen[f] {
			t.Errorf("in %d rounds there is no %q", n, f)
		}
	}
	if moves < n {
		t.Errorf("%d moves in %d rounds", moves, n)
	}
	if only := Schedule(7, 50, hosts, volumes, []Fault{KillHost}); slices.ContainsFunc(only, func(r Round) bool { return r.Cluster != "" }) {
		t.Error("a fault that was not asked for")
	}
}
