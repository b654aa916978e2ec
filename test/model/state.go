package model

// host is A, the owner, or a taker: B and C of the volume, D of another one.
type host uint8

const (
	nobody host = iota
	hostA
	hostB
	hostC
	hostD
)

// maxStays bounds the incarnations of A.
const maxStays = 3

// state is all that matters of the world at one moment. Times are ticks from
// now. What has no meaning at the moment is zero (see settle), so that states
// that don't differ in what can happen next are one.
type state struct {
	record    record
	fences    [maxStays + 1]proof // fences/A/<incarnation>/<a domain that covers the volume>
	elsewhere bool                // fences/A/1/<another domain>, proven
	session   session
	storage   storage
	a         owner
	takers    [2]taker
	wait      int8 // what is left of it, of the taker that waits
	neighbour progress
	faults    uint8 // that may still come
	bad       Violation
}

// record is owners/<ID>.
type record struct {
	state    recordState
	host     host
	stay     uint8 // the owner's incarnation, if that is A; also identity and long
	epoch    uint8
	identity uint8 // what a fence is to cut off; 0: nothing yet
	long     bool  // the terms say that the TTL is the longer one
	taker    host  // of fencing
	gone     bool  // the taker's session is over
}

type recordState uint8

const (
	free recordState = iota
	held
	fencing
)

// proof is a record in fences/, or that there is none.
type proof uint8

const (
	none     proof = iota
	recorded       // a taker is about to fence
	byFence        // proven: method command, or a backend's
	byLease        // proven: method lease
	bySelf         // proven: method own
)

func (p proof) proven() bool { return p > recorded }

// session is the one of A's last stay, in Consul.
type session struct {
	live    bool
	idle    int8 // since the last renewal was processed; only if nothing ends it early
	deposed int8 // it has ended, and a deposed leader renews it for so long
	thawed  bool // it has ended, and the leader that was frozen has renewed it
}

// storage is the pool. A fence is made against a stay, and cuts an identity off.
type storage struct {
	fences [maxStays + 1]uint8
	epoch  uint8 // the highest that wrote
	writer host  // who did
}

// owner is host A.
type owner struct {
	power   power
	stay    uint8 // its last incarnation
	joined  bool  // dvold runs, and believes in the session of that stay
	lease   int8  // of that session
	renewal renewal
	age     int8 // of the renewal, since it was sent

	phase phase // of the volume; with the next three it is standing.State
	due   int8
	cutBy int8
	ended bool

	stage    stage
	under    uint8 // the stay it is held under
	epoch    uint8
	identity uint8 // that it is, or is to be, mounted by
	mounted  bool
	writing  bool  // a container runs
	dirty    uint8 // the epoch of what was written and has not reached the storage

	unfences uint8 // an un-fence is on its way, of the stays up to this one
	orphan   uint8 // and another one, whose dvold was killed
}

type power uint8

const (
	on power = iota
	paused
	off
)

type renewal uint8

const (
	noRenewal renewal = iota
	sent
	sentInDoubt
	answered
)

// stage is how far dvold on A is with a mount.
type stage uint8

const (
	idle      stage = iota
	acquired        // the record says so
	told            // the guard knows
	connected       // the storage knows it by a client, if it does only then
	named           // and the record says by which
	mounting        // it is mounted
	serving         // the engine was answered
)

// taker is B or C.
type taker struct {
	progress progress
	stay     uint8 // A's, as it was read
	stale    bool  // its session is over, and it doesn't know
}

// progress is how far a taker is.
type progress uint8

const (
	watching progress = iota
	silent            // it has seen that A is silent
	waits             // for A's lease, before its intent
	waited
	intends
	waitsIntent // for A's lease, after its intent
	cutOff      // it has fenced, or waited long enough
	proved
	took
	wrote
)

// begin is the state in which A has just acquired the volume.
func (w *World) begin() state {
	return state{
		record:    record{state: held, host: hostA, stay: 1, epoch: 1, identity: w.atFirst(1)},
		session:   session{live: true},
		elsewhere: w.Elsewhere,
		a:         owner{stay: 1, joined: true, lease: w.TTL, stage: acquired, under: 1, epoch: 1, identity: w.atFirst(1)},
		faults:    w.Faults,
	}
}

// settle sets what has no meaning to zero.
func (s *state) settle(w *World) {
	if s.session.live {
		s.session.deposed, s.session.thawed = 0, false
	}
	if w.Early || !s.session.live {
		s.session.idle = 0
	}
	s.a.settle()
	waiting := false
	for i := range s.takers {
		t := &s.takers[i]
		if t.progress == watching {
			*t = taker{}
		}
		waiting = waiting || t.progress == waits || t.progress == waitsIntent
	}
	if !waiting {
		s.wait = 0
	}
	if s.record.state != fencing {
		s.record.taker, s.record.gone = nobody, false
	}
	if s.record.host != hostA {
		s.record.stay, s.record.identity, s.record.long = 0, 0, false
	}
}

func (a *owner) settle() {
	if !a.joined {
		a.lease, a.renewal = 0, noRenewal
	}
	if a.renewal == noRenewal {
		a.age = 0
	}
	if a.phase != isCutting {
		a.cutBy = 0
	}
	if a.phase != isHeld && a.phase != isDoubted {
		a.due = 0
	}
	if a.phase == unknown || a.phase == isCutting || a.phase == isGone {
		a.ended = false
	}
	if a.phase == unknown && a.stage == idle && !a.mounted && a.dirty == 0 {
		a.under, a.epoch, a.identity = 0, 0, 0
	}
}
