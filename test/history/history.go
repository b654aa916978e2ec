// Package history judges what hosts have written to an exclusive volume while
// hosts, networks and Consul failed.
//
// A volume has a register, a file of one line, and a log, to which lines are
// appended. A worker (command worker) in a container of the volume's owner reads and writes
// both, each write durable before the next, and writes down in its journal, which
// lies elsewhere, what it is about to do and what became of it. [Volume.Check]
// holds the journals of all workers against each other, and against what is in
// the volume in the end.
//
// Faults come by a [Schedule], which a seed gives. The tests of this package run
// both on hosts of the lab.
package history

import (
	"math"
	"time"
)

// Kind is what an operation does.
type Kind string

// The kinds.
const (
	Read   Kind = "read"   // of the register
	Write  Kind = "write"  // to the register
	Append Kind = "append" // to the log
)

// Op is an operation of a worker. Times are on a clock that all hosts share.
type Op struct {
	Kind   Kind
	Value  string        // what is written; of a read, what was read
	Call   time.Duration // before anything was done
	Return time.Duration // when it had succeeded, and was durable; 0 if it had not
	Err    string        // why it hadn't; empty also if it never ended
}

// ok tells that the operation succeeded. Whether another has happened, nobody knows.
func (o Op) ok() bool { return o.Return != 0 }

// Tenure is what one worker did.
type Tenure struct {
	Worker string // its name, which no other has
	Host   string
	Epoch  uint64 // of which its host owned the volume when it began
	Ops    []Op   // in the order of their calls
}

// Volume is all that was done to a volume, and what somebody has found in it.
type Volume struct {
	Name    string
	Tenures []Tenure // in the order in which their workers were started
	Look
}

// Look is what was in a volume at some time between two, in which workers may
// have gone on.
type Look struct {
	From, To time.Duration
	Register string
	Log      []string // its lines
}

// never is later than everything.
const never = time.Duration(math.MaxInt64)
