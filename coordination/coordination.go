// Package coordination defines how the hosts of a cluster agree.
//
// It offers records, changed by small transactions, and sessions, which tell
// live hosts from silent ones. What the records mean is not its business. Each
// sub-package implements [Coordinator] and passes the suite in coordtest.
//
// All writes go through a [Session], so that a host which was given up for
// dead can change nothing any more, however late its writes arrive.
package coordination

import (
	"context"
	"errors"
	"iter"
	"math"
	"time"
)

// Errors a Coordinator returns, wrapped with what it was doing.
var (
	// ErrNotFound means there is no such record.
	ErrNotFound = errors.New("record not found")
	// ErrConflict means another writer came first, and nothing was changed.
	ErrConflict = errors.New("record changed meanwhile")
	// ErrSessionLost means the session has ended, and nothing was changed.
	ErrSessionLost = errors.New("session lost")
	// ErrUnavailable means that the coordinator does not answer and nothing
	// was changed; the same call may succeed later.
	ErrUnavailable = errors.New("coordination unavailable")
	// ErrUnknown means that a transaction has happened or not, as when the
	// answer to it was lost, or happens later, while its Session lasts. So a
	// read tells of what has happened by then and of no more. Who must be sure
	// that it does not happen first changes a record whose version it names:
	// after that it is done, or never will be.
	ErrUnknown = errors.New("outcome of the transaction unknown")
	// ErrTooLarge means a transaction of more than MaxOps operations, or of
	// values of more than MaxBytes together; nothing was changed.
	ErrTooLarge = errors.New("transaction too large")
)

// Limits that every Coordinator keeps; Consul up to 1.12 allows 64 operations,
// of which a Delete takes two, and, by default, 512 KiB in base64 for a whole
// transaction.
const (
	MaxOps   = 30        // in a transaction
	MaxBytes = 256 << 10 // of all values of a transaction
	MaxKey   = 512       // bytes of a key
)

// Never is the Deadline of a session that does not expire.
const Never time.Duration = math.MaxInt64

// Coordinator is a store that all hosts of a cluster share. Its methods may be
// called concurrently and return soon after ctx ends.
type Coordinator interface {
	Reader

	// Join announces h as live until the Session ends, with an incarnation
	// greater than any that h.Name had before; the Session outlives ctx. If
	// the same machine is live already, with that name and ID, the new Session
	// takes over and the old one ends with ErrSessionLost. It returns
	// ErrConflict if a host of that name and another ID is live. Neither may
	// be empty.
	Join(ctx context.Context, h Host) (Session, error)

	// Hosts lists the hosts that ever joined and were not forgotten, ordered
	// by name. It sees every Join, and every end of a session for whatever
	// reason, that the coordinator had processed before it began. A host that
	// is not Live stopped reporting; it may well still write to its volumes. If
	// it is not Live again later, at the same Version, it was not in between,
	// unless the coordinator was put back to an earlier state.
	Hosts(ctx context.Context) ([]Host, error)

	// Host returns that one of Hosts, as true, or ErrNotFound. It costs the same
	// however many there are.
	Host(ctx context.Context, name string) (Host, error)

	// Close frees what the Coordinator holds. Sessions must be closed first.
	Close() error
}

// Reader reads records.
//
// Keys are slash-separated words without spaces, in UTF-8 and at most MaxKey
// bytes; a word is not empty, "." or "..". Get and List see every
// transaction that was committed before they began, on whichever host.
type Reader interface {
	// Get returns the record at key, or ErrNotFound.
	Get(ctx context.Context, key string) (Record, error)

	// List returns the records whose keys begin with prefix, ordered by key.
	List(ctx context.Context, prefix string) ([]Record, error)

	// Keys is List without the values: cheap, and perhaps a moment out of
	// date, but never as to what this Coordinator's own sessions committed.
	Keys(ctx context.Context, prefix string) ([]string, error)

	// Watch yields what List would return, now and after each change, until
	// ctx ends. It may skip a state that was soon replaced, never the latest.
	// After yielding an error it tries again.
	Watch(ctx context.Context, prefix string) iter.Seq2[[]Record, error]
}

// Session is a host's presence in the cluster. Its methods may be called
// concurrently.
type Session interface {
	Lease

	// Commit does all of ops, or nothing and returns an error: ErrConflict
	// if any record isn't at the version its Op names, ErrSessionLost,
	// ErrUnavailable, ErrUnknown or ErrTooLarge. It returns the records put,
	// in the order of ops, with their new versions. No key may occur twice.
	Commit(ctx context.Context, ops ...Op) ([]Record, error)

	// Incarnation numbers this stay of the host in the cluster.
	Incarnation() uint64

	// Context ends with the session: with cause ErrSessionLost before other
	// hosts can take this one for dead.
	Context() context.Context

	// Forget takes a host out of Hosts until it joins again; its incarnations
	// go on counting. It returns ErrConflict if h.Version is not its last, or
	// it is live; and otherwise what Commit does.
	Forget(ctx context.Context, h Host) error

	// Close ends the session at once. A closed session is closed again
	// without error.
	Close(ctx context.Context) error

	// Abandon ends the session for this host alone: others may take the host
	// for live until the session has expired, or the host has joined again. It
	// is for a host that is about to be back, and asks nobody. What it was asked
	// to commit may still happen until then, and not after that.
	Abandon()
}

// Lease is how long a session may be believed in by its own host. The session
// can end earlier; whatever ends it, Context tells soon if the coordinator
// answers, and at Deadline if it does not. Context may be a moment late, as
// after a sleep of the machine: who needs it exactly looks at the clock.
type Lease interface {
	// Deadline is when, on CLOCK_BOOTTIME, the host must stop believing that it
	// is in the cluster, unless the session is renewed first; Never if sessions
	// don't expire. It only grows, and no more once Context has ended.
	//
	// It is less than TTL after a moment at which the host still was Live. So
	// whoever finds in Hosts that it is not, and then waits for TTL, and for
	// what clocks may differ, acts after Deadline.
	Deadline() time.Duration

	// Renewed is a channel, for one reader, that receives after Deadline grew;
	// once, if it grew several times before the reader came. It is nil if
	// sessions don't expire, and is never closed.
	Renewed() <-chan struct{}

	// TTL is how long after the sending of a renewal the session may be
	// believed in, at most; 0 if sessions don't expire.
	TTL() time.Duration
}

// Record is a value under a key.
type Record struct {
	Key     string
	Value   []byte
	Version uint64 // greater after each change of Value, even if the record was deleted in between; never 0
}

// Host is a machine that runs dvold.
type Host struct {
	Name string // unique in the cluster
	ID   string // tells apart two machines that were given one name
	Boot string // the kernel's boot ID

	// Set by the Coordinator.
	Incarnation uint64
	Live        bool
	Suspect     bool      // proves nothing: something outside dvold says that the machine is down
	Since       time.Time // of this incarnation
	Version     uint64    // as Record.Version; also greater after each Join of the host
}
