package history

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind of a fault. Those of hosts begin with what is done to whom.
type Fault string

// The faults, of hosts and of Consul.
const (
	KillHost    Fault = "kill host"
	FreezeHost  Fault = "freeze host" // and thaw it
	StallHost   Fault = "stall host"  // freeze it for less than half a lease
	CutConsul   Fault = "cut off from Consul"
	CutStorage  Fault = "cut off from storage"
	CutAll      Fault = "cut off from all"
	KillDvold   Fault = "kill dvold"
	FreezeDvold Fault = "freeze dvold"
	CutFrozen   Fault = "freeze dvold, cut off from Consul" // the guard alone is left
	KillGuard   Fault = "kill guard"
	EndSession  Fault = "end session"                      // as an operator can
	CutForgot   Fault = "cut off from Consul, end session" // who is cut off can't know

	KillLeader   Fault = "kill Consul's leader"
	FreezeLeader Fault = "freeze Consul's leader"
	StartConsul  Fault = "restart Consul"
	StopStorage  Fault = "freeze storage"
)

// OfHosts are the faults that are somebody's.
var OfHosts = []Fault{KillHost, FreezeHost, StallHost, CutConsul, CutStorage, CutAll, KillDvold, FreezeDvold, CutFrozen, KillGuard, EndSession, CutForgot}

// OfCluster are the faults that are nobody's.
var OfCluster = []Fault{KillLeader, FreezeLeader, StartConsul, StopStorage}

// Silences tells that the host is silent until it is brought back, so that others
// get what it owns.
func (f Fault) Silences() bool {
	return slices.Contains([]Fault{KillHost, FreezeHost, CutConsul, CutAll, KillDvold, FreezeDvold, CutFrozen, CutForgot}, f)
}

// Round is a time in which something is broken, until all is well again.
type Round struct {
	Number  int
	Hosts   map[int]Fault // what happens to whom, counted from 1; one at least is spared
	Cluster Fault         // may be empty
	Wants   []int         // by volume, the host that wants it meanwhile; 0 for nobody
	Hold    time.Duration // how long it lasts
	Early   bool          // it ends after Hold, even if somebody still waits for a volume
}

func (r Round) String() string {
	var words []string
	for h := 1; h < 10; h++ {
		if f, ok := r.Hosts[h]; ok {
			words = append(words, fmt.Sprintf("h%d: %s", h, f))
		}
	}
	if r.Cluster != "" {
		words = append(words, string(r.Cluster))
	}
	if len(words) == 0 {
		words = append(words, "nothing")
	}
	for i, h := range r.Wants {
		if h != 0 {
			words = append(words, fmt.Sprintf("h%d wants v%d", h, i+1))
		}
	}
	end := "at least"
	if r.Early {
		end = "just"
	}
	return fmt.Sprintf("round %d: %s; %s %v", r.Number, strings.Join(words, ", "), end, r.Hold)
}

// Schedule is so many rounds on so many hosts with so many volumes, in which such
// faults happen. The same seed gives the same rounds; more rounds begin with those
// of fewer.
func Schedule(seed uint64, rounds, hosts, volumes int, faults []Fault) []Round {
	random := rand.New(rand.NewPCG(seed, 0))
	var ofHosts, ofCluster []Fault
	for _, f := range faults {
		if slices.Contains(OfCluster, f) {
			ofCluster = append(ofCluster, f)
		} else {
			ofHosts = append(ofHosts, f)
		}
	}
	// Mostly one thing breaks, and sometimes nothing, or several.
	some := func(oneIn int) bool { return random.IntN(oneIn) == 0 }
	all := make([]Round, rounds)
	for i := range all {
		r := Round{Number: i + 1, Hosts: make(map[int]Fault), Wants: make([]int, volumes)}
		order := random.Perm(hosts)
		victims := 1
		switch {
		case some(10):
			victims = 0
		case some(5):
			victims = 2
		}
		for _, h := range order[:min(victims, hosts-1)] {
			r.Hosts[h+1] = ofHosts[random.IntN(len(ofHosts))]
		}
		if len(ofCluster) > 0 && some(6) {
			r.Cluster = ofCluster[random.IntN(len(ofCluster))]
		}
		for v := range r.Wants {
			if !some(5) {
				r.Wants[v] = order[hosts-1-random.IntN(hosts-min(victims, hosts-1))] + 1 // one that is spared
			}
		}
		r.Hold = time.Duration(500+random.IntN(6000)) * time.Millisecond
		if some(3) {
			r.Hold, r.Early = r.Hold*3, true // about when they would get it
		}
		all[i] = r
	}
	return all
}
