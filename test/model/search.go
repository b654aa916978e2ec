package model

import (
	"fmt"
	"slices"
	"strings"
)

// Result is what a search has found.
type Result struct {
	States int       // how many there are, or were reached before the violation
	Broken Violation // or Sound
	Trace  []string  // the shortest way to it
}

func (r Result) String() string {
	if r.Broken == Sound {
		return fmt.Sprintf("%d states", r.States)
	}
	return fmt.Sprintf("%v, after %d states:\n  %s", r.Broken, r.States, strings.Join(r.Trace, "\n  "))
}

// Search takes all steps from the first state, breadth first, until nothing new
// is reached, or something is violated: any property if seek is Sound, or else
// that one, whatever becomes of the others.
func Search(w World, r Rules, seek Violation) Result {
	g := newGraph(w, r, seek)
	g.grow()
	if g.bad < 0 && (seek == Sound || seek == DeadEnd) {
		g.findDeadEnd()
	}
	if g.bad < 0 {
		return Result{States: len(g.nodes)}
	}
	return Result{States: len(g.nodes), Broken: g.nodes[g.bad].state.bad, Trace: g.trace(g.bad)}
}

// maxStates bounds a search, which takes about 200 bytes for each.
const maxStates = 1 << 20

// model is a world under rules.
type model struct {
	World
	Rules
	visit func(by label, s state) // gets the states that steps lead to
}

// steps takes every step that is possible in s.
func (m *model) steps(s state) {
	m.tick(s)
	m.consul(s)
	m.owner(s)
	for i := range m.Takers {
		m.taker(s, i)
	}
	if m.Neighbour {
		m.neighbour(s)
	}
}

// reach says that a step leads to s.
func (m *model) reach(by label, s state) {
	s.settle(&m.World)
	m.visit(by, s)
}

// label says what a step is: who does what.
type label struct {
	who   host
	fault bool // something goes wrong with it
	what  string
}

func by(who host, what string) label    { return label{who: who, what: what} }
func fault(who host, what string) label { return label{who: who, what: what, fault: true} }

func (l label) String() string {
	who := [...]string{nobody: "", hostA: "A", hostB: "B", hostC: "C", hostD: "D"}[l.who]
	if who == "" || l.what[0] == '\'' {
		return who + l.what
	}
	return who + " " + l.what
}

// graph is what of a model has been reached.
type graph struct {
	model
	seek  Violation
	nodes []node
	set   set
	from  int32 // the node that steps are taken from
	bad   int32 // the first that violates something, or -1
	edges []edge
}

// edge is a step between nodes that is no fault.
type edge struct{ from, to int32 }

// node is a state, and how it was reached first.
type node struct {
	state state
	from  int32 // or -1
	by    label
}

func newGraph(w World, r Rules, seek Violation) *graph {
	g := &graph{model: model{World: w, Rules: r}, seek: seek, from: -1, bad: -1}
	g.visit = g.add
	g.reach(by(hostA, "has acquired the volume"), g.begin())
	return g
}

// grow takes the steps of each node, until a violation is found.
func (g *graph) grow() {
	for i := 0; i < len(g.nodes) && g.bad < 0; i++ {
		g.from = int32(i)
		g.steps(g.nodes[i].state)
	}
}

// add adds the node of a state that was reached, or finds it.
func (g *graph) add(by label, s state) {
	if s.bad == Sound && g.from >= 0 {
		s.bad = g.check(&g.nodes[g.from].state, &s)
	}
	if g.seek != Sound && s.bad != g.seek {
		s.bad = Sound
	}
	slot := g.set.find(g.nodes, &s)
	if *slot == 0 {
		if len(g.nodes) == maxStates {
			s.bad = TooMany
		}
		g.nodes = append(g.nodes, node{state: s, from: g.from, by: by})
		*slot = int32(len(g.nodes))
	}
	i := *slot - 1
	if s.bad != Sound && g.bad < 0 {
		g.bad = i
	}
	if !by.fault && g.from >= 0 {
		g.edges = append(g.edges, edge{g.from, i})
	}
}

// trace tells how a node was reached. Ticks in a row are counted.
func (g *graph) trace(i int32) []string {
	var steps []string
	for ; i >= 0; i = g.nodes[i].from {
		steps = append(steps, g.nodes[i].by.String())
	}
	slices.Reverse(steps)
	var trace []string
	for n := 0; len(steps) > 0; steps = steps[n:] {
		for n = 1; n < len(steps) && steps[0] == tickLabel && steps[n] == tickLabel; n++ {
		}
		if n > 1 {
			trace = append(trace, fmt.Sprintf("%d ticks", n))
		} else {
			trace = append(trace, steps[0])
		}
	}
	return trace
}
