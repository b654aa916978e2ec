package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// step is an operation on the register as it is judged.
type step struct {
	kind  Kind
	value string
	by    string // the worker
	call  time.Duration
	end   time.Duration // by when it has happened
	sure  bool          // that it has happened
}

// register is a register for porcupine: its state is what is in it, at first
// nothing. Every operation has the step as its input.
var register = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		s := input.(step)
		if s.kind == Write {
			return true, s.value
		}
		return s.value == state, state
	},
}

// checkRegister tells whether the tenures' operations, and a look at the register,
// have an order in which each takes place between its call and its end and each
// read finds what was written last.
//
// The search takes time and memory by the square of their number, so the history
// is cut where it is known what the register had.
func checkRegister(order []Tenure, look Look) error {
	for _, part := range parts(registerSteps(order, look)) {
		ops := make([]porcupine.Operation, len(part))
		for i, s := range part {
			ops[i] = porcupine.Operation{Input: s, Call: int64(s.call), Return: int64(s.end)}
		}
		const patience = time.Minute
		switch result, info := porcupine.CheckOperationsVerbose(register, ops, patience); result {
		case porcupine.Unknown:
			return fmt.Errorf("%d operations of the register: not judged within %v", len(part), patience)
		case porcupine.Illegal:
			return fmt.Errorf("the register is not linearizable: %s", explain(part, info))
		}
	}
	return nil
}

// registerSteps are the operations of tenures, which are in the order of their
// epochs, in the order of their calls. Values are unique: of writes of which nobody
// knows whether they have happened, those whose value somebody read have, and the
// others might as well not. A host that reads what it was itself told had failed has that from
// its cache, where a file system keeps it that was on a disk: that tells nothing. Nor does what
// one reads that may have been cut off: ceph-fuse says then that there is no such file, or
// has its cache.
func registerSteps(order []Tenure, look Look) []step {
	var steps []step
	type write struct {
		epoch uint64
		value string
	}
	failed := make(map[write]bool)
	for _, t := range order {
		for _, o := range t.Ops {
			if o.Kind == Write && o.Err != "" {
				failed[write{t.Epoch, o.Value}] = true
			}
		}
	}
	for i, t := range order {
		begun := never // the next tenure; all that this one did has happened before, or never
		for _, later := range order[i+1:] {
			if len(later.Ops) > 0 {
				begun = min(begun, later.Ops[0].Call)
			}
		}
		cut := never // from when on it may have been cut off
		if begun != never {
			cut = t.mayBeCut()
		}
		for _, o := range t.Ops {
			s := step{kind: o.Kind, value: o.Value, by: t.Worker, call: o.Call, end: o.Return, sure: o.ok()}
			switch {
			case o.Kind == Append,
				o.Kind == Read && (!o.ok() || o.Return >= begun || o.Call >= cut || failed[write{t.Epoch, o.Value}]),
				!o.ok() && o.Call >= begun:
				continue
			case !o.ok():
				s.end = begun
			case o.Call < begun:
				s.end = min(o.Return, begun)
			}
			steps = append(steps, s)
		}
	}
	steps = append(steps, step{kind: Read, value: look.Register, by: "a look", call: look.From, end: look.To, sure: true})
	read := make(map[string]bool)
	for _, s := range steps {
		if s.kind == Read {
			read[s.value] = true
		}
	}
	steps = slices.DeleteFunc(steps, func(s step) bool { return !s.sure && !read[s.value] })
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(a.call, b.call) })
	return steps
}

// mayBeCut is the end of the last write that succeeded if one has failed since, or never:
// from then on a fence may have been at work.
func (t Tenure) mayBeCut() time.Duration {
	last, failed := time.Duration(0), false
	for _, o := range t.Ops {
		switch {
		case o.Kind == Read:
		case o.ok():
			last, failed = o.Return, false
		case o.Err != "":
			failed = true
		}
	}
	if !failed {
		return never
	}
	return last
}

// parts cuts a history at writes that overlap with nothing. Such a write ends one
// part and begins the next, so that both know what the register had: the whole is
// linearizable if and only if all parts are.
func parts(steps []step) (all [][]step) {
	const least = 100
	begin, busy := 0, time.Duration(-1) // until when something before is under way
	for i, s := range steps {
		alone := s.kind == Write && s.sure && s.call > busy && i+1 < len(steps) && steps[i+1].call > s.end
		if alone && i-begin >= least {
			all = append(all, steps[begin:i+1])
			begin = i
		}
		busy = max(busy, s.end)
	}
	return append(all, steps[begin:])
}

// explain says where the longest order that there is comes to its end.
func explain(part []step, info porcupine.LinearizationInfo) string {
	var longest []int
	for _, partial := range info.PartialLinearizations()[0] {
		if len(partial) > len(longest) {
			longest = partial
		}
	}
	last := "nothing"
	for _, i := range slices.Backward(longest) {
		if part[i].kind == Write {
			last = part[i].value
			break
		}
	}
	// Of those that have no place, the first that had ended.
	stuck := -1
	for i, s := range part {
		if !slices.Contains(longest, i) && (stuck < 0 || s.end < part[stuck].end) {
			stuck = i
		}
	}
	if stuck < 0 {
		return "all have a place"
	}
	s := part[stuck]
	return fmt.Sprintf("%s of %q by %s, %v to %v, has no place; the register has %s then", s.kind, s.value, s.by, s.call, s.end, last)
}
