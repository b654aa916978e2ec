// Package model searches all that can happen between the owner of an exclusive
// volume and those who take it over, as docs/takeover.md has it, for two writers
// at once. The owner's side is internal/standing itself.
//
// Host A owns the volume, B and C may take it over, D takes another volume from
// A that a fence cuts off with it. A [World] says what they live in and what may
// go wrong, [Rules] what they keep to. A state is a value; from each, every step
// of every host, of Consul and of the clock is taken, so a host may be slow,
// frozen or killed between any two steps, and requests and answers be late.
package model

import "github.com/dvol/dvold/internal/standing"

// World is what the hosts live in: the pool, the timers in ticks, and what may
// go wrong, how often.
type World struct {
	Policy  standing.Policy // A's terms
	Fence   bool            // the pool can fence; if not, takers wait for the lease
	Address bool            // a fence cuts off an address, which A has in all its stays, and not one client
	Connect bool            // of which A and the record know only once A is connected
	Takers  int             // 1 is B, 2 are B and C
	Epochs  uint8           // owners in all

	TTL, F, Drift int8
	ExtraWait     int8 // of takers, on top of W
	LongerTTL     int8 // what A has more after its first stay

	Slow     bool // renewals and their answers take their time, or are lost
	Early    bool // Consul may end a session at any time: destroyed, deregistered, restored
	Server   int8 // otherwise so long after the last renewal at the earliest; a leader change only makes it later
	Deposed  int8 // for so long after a session's end a deposed leader renews it still
	Frozen   bool // or it was frozen meanwhile, and does so once, whenever it thaws
	Skew     int8 // so much a taker's clock may gain in a wait
	SlowRead int8 // so long a taker's read of the free key may be on its way to Consul

	Stays  uint8 // incarnations of A
	Faults uint8 // in all: A's dvold, A's machine or a taker is killed, whatever it is at
	Pauses bool  // or A's machine is paused, its guard and its clock included
	Stall  bool  // or a taker loses its session without noticing

	Neighbour   bool // another volume of A in the same domain may be taken over
	Elsewhere   bool // one in another domain has been: there is a proof
	MountWrites bool // mounting writes to the volume, as the replay of a journal does
}

// identity is what A is known by to the storage if it mounts in a stay.
func (w *World) identity(stay uint8) uint8 {
	if w.Address {
		return 1
	}
	return stay
}

// atFirst is what of it is known when A becomes the owner.
func (w *World) atFirst(stay uint8) uint8 {
	if w.Connect {
		return 0
	}
	return w.identity(stay)
}

// ttl is what A's session has in a stay.
func (w *World) ttl(stay uint8) int8 {
	if stay > 1 {
		return w.TTL + w.LongerTTL
	}
	return w.TTL
}
