package backends

import (
	"context"
	"errors"
)

// ErrCannotFence is what Identity returns where this host can't be cut off by
// whatever is tried: its text says why. Then the volume can be used, and is taken
// over from this host by other means, or by an operator.
var ErrCannotFence = errors.New("this host can't be fenced")

// Fencer keeps a host from writing to a volume, whatever that host does. A pool
// has one if its Backend is one, or if the operator configured a command.
//
// Methods may be called concurrently, also for one volume. They end soon after
// ctx does, with an error that wraps that of ctx.
type Fencer interface {
	// Identity returns what Fence will need to cut this host off from the
	// volume later, and the domain that such a fence covers. It is asked before
	// the volume is mounted, and recorded. It may return ErrCannotFence.
	Identity(ctx context.Context, handle string) (Identity, error)

	// Fence returns nil only once no write of that host can reach the volume
	// any more, also none that is on its way, and likewise for all of the
	// domain that f.Identity names. It may be repeated, also by another host,
	// and may cut the host off from more than the domain, never from less. Any
	// error means: not fenced, as far as anybody can tell.
	Fence(ctx context.Context, f Fence) error

	// Unfence undoes Fence, after the host has proved clean. It may be
	// repeated. It does not undo the fence of a later incarnation of the host,
	// even if the call was cut short and what it began arrives late.
	Unfence(ctx context.Context, f Fence) error

	// Method names this way of fencing in records and for people: "command", …
	Method() string

	// Effect says in one clause what a fence of f would do, and hit besides the
	// volume. It asks nobody.
	Effect(f Fence) string
}

// Serial is a Fencer that must not be at work twice at once, on whichever hosts,
// where Turn answers the same: it changes something that storage has no means to
// change in one step.
type Serial interface {
	// Turn returns words without spaces, with slashes between.
	Turn(f Fence) string
}

// Connecting is a Fencer, and the pool's Backend, by which a host is known only
// once it is connected to a volume: by the address of a client that does not
// exist before.
//
// Its Identity answers with a domain that is final and of the one volume alone, for
// another may be connected already, and with facts that are missing or not all
// there. Fence of an identity without the facts that Connect adds has
// nothing to cut off, and returns nil; so does Unfence. What that rests on is
// the caller's part: it records what Connect returned before it mounts anything.
// A Mount without an identity, as of a shared volume, connects by itself.
type Connecting interface {
	// Connect makes a volume reachable for this host alone, as by mapping its
	// image or starting its client, and returns id with the facts of that
	// connection and with the same domain. It writes nothing to the volume: it
	// makes no file system, repairs none and replays no journal, all of which is
	// Mount's. It is called once this host is recorded as the owner of the volume,
	// with the identity in that record, and before Mount, which is then given what
	// it returned and uses that connection or fails: it never makes another. If the
	// owner before died, that identity has the facts of its connection, or those that it
	// had found itself.
	//
	// It may be repeated, and returns the identity of the connection that is there,
	// also to a dvold that was started anew. One that has ended or was cut
	// off is replaced, unless something is mounted by it still: that is ErrInUse.
	// An earlier connection that id has the facts of, and that is not the one that is
	// there, is ended, so that the storage has nobody wait for it, and its facts are dropped
	// once nothing that it sent can reach the volume any more. One of storage that is
	// another's by now is left alone.
	//
	// What it made goes with Unmount, also if Mount was never called or failed, or
	// Connect itself did; until then Remove returns ErrInUse. It returns ErrNotFound
	// if there is no such volume, and ErrInUse if another host is connected to it
	// that its storage gives precedence.
	Connect(ctx context.Context, handle string, id Identity) (Identity, error)
}

// Identity is how the storage, or whoever fences, knows a host as the client of
// a volume. It is written down by that host: what others find out about it when
// it is silent may be another host's.
type Identity struct {
	// Domain names what a fence cuts off at once: words without spaces, with
	// slashes between, 200 bytes at most. Two volumes have the same exactly if
	// a fence that covers the one covers the other. "volume/…" is the one
	// volume, "host" all that the host could write to.
	Domain string `json:"domain"`
	// Facts are what the Fencer wants to be told again, such as addresses. A
	// Connecting one has some only once the host is connected.
	Facts map[string]string `json:"facts,omitempty"`
}

// Fence is one host to cut off from one volume.
type Fence struct {
	Host        string   `json:"host"`        // its name in the cluster
	Incarnation uint64   `json:"incarnation"` // the stay of it that is to write no more; later ones have greater numbers
	Pool        string   `json:"pool"`
	Volume      string   `json:"volume"` // its name
	ID          string   `json:"id"`
	Handle      string   `json:"handle"`
	Epoch       uint64   `json:"epoch"` // of the host's ownership of the volume
	Identity    Identity `json:"identity"`
}

// Stamper is a Backend that keeps, with a volume, the epoch of its last owner.
// A stamp finds out that the cluster's records went back in time; it keeps
// nobody from writing.
type Stamper interface {
	// Stamp keeps text, at most MaxDescription bytes, with the pool's volumes,
	// under id, in place of what was there: at once and durably, or not at all.
	// Empty text takes it away; Remove leaves it. Containers can't see it, and
	// Descriptions does not return it.
	Stamp(ctx context.Context, id string, text []byte) error

	// Stamped returns what Stamp was given last, on whatever host, or nil if
	// there is none.
	Stamped(ctx context.Context, id string) ([]byte, error)
}
