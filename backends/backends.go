// Package backends defines what dvold asks of a storage system.
//
// A pool is a configured place that volumes are made in; a [Backend] is the
// code that makes them there. Each sub-package implements it for one system
// and passes the suite in backendtest. A backend knows its storage and nothing
// else: not Docker, not the cluster, not the other backends.
//
// A handle is what the backend calls a volume: a directory, an image. It is
// settled by Plan before anything is made, so that dvold can write it down
// first, it never changes, and it alone tells where the volume lies: a backend
// keeps no records of its own. It comes back from records that may be damaged, so
// each call checks its form. Data whose handle is another's, a slash and more is
// taken to lie within that one's.
//
// What only some systems can do is an interface of its own, found by type
// assertion; no method exists only to refuse. A backend that holds something
// open is also an [io.Closer]; closing it leaves volumes mounted.
package backends

import (
	"context"
	"errors"
	"io/fs"
)

// Errors a Backend returns, wrapped with what it was doing.
var (
	// ErrInvalid means the request can never succeed; its text is for the user.
	ErrInvalid = errors.New("invalid request")
	// ErrNotFound means the storage answers and has no such volume.
	ErrNotFound = errors.New("volume not found in its pool")
	// ErrInUse means something on this host still uses the volume.
	ErrInUse = errors.New("volume in use")
	// ErrNoSpace means the pool or a quota is full.
	ErrNoSpace = errors.New("pool full")
	// ErrUnavailable means the storage does not answer, or is not what the
	// configuration says it is; the same call may succeed later.
	ErrUnavailable = errors.New("storage unavailable")
)

// Backend is one pool.
//
// Every method may be repeated: a call that failed, was cut short or whose
// result was lost can be made again, and repeating one that succeeded changes
// nothing. Methods may be called concurrently, but never twice at once for one
// volume on one host. They end soon after ctx does where the system calls beneath
// allow it, with success or an error that wraps that of ctx; a caller that must
// not wait longer leaves the call behind and keeps the volume locked until it
// ends.
type Backend interface {
	// Plan checks a request and settles what Create is to make. It makes
	// nothing of the volume. It returns ErrInvalid for what this pool cannot provide and,
	// where an existing thing is to be adopted, ErrNotFound if it isn't there.
	Plan(ctx context.Context, r Request) (Volume, error)

	// Create makes a planned volume: empty, without even a lost+found, durable,
	// and with the owner and mode asked for, whatever the umask. A volume that is
	// complete stays as its users left it. Of an adopted volume it changes
	// nothing, but returns ErrNotFound if it is missing.
	Create(ctx context.Context, v Volume) error

	// Remove deletes a volume and its data for good, or what a Create that was
	// cut short has left of it. One already gone is no error. It returns
	// ErrInvalid for a handle that Plan did not make up itself, that is, for
	// adopted data; and ErrInUse while the volume is mounted on this host.
	Remove(ctx context.Context, handle string) error

	// Stat describes a volume, or returns ErrNotFound.
	Stat(ctx context.Context, handle string) (Info, error)

	// Mount makes the volume's files appear at target, an existing empty
	// directory whose path has no symbolic link in it. Mounting what is
	// mounted there already, in the same way, changes nothing; with other
	// options, or if something else is mounted there, it returns ErrInUse and
	// leaves that. If it fails otherwise, target is not a mountpoint. It
	// returns ErrNotFound if there is no such volume.
	Mount(ctx context.Context, handle, target string, o MountOptions) error

	// Unmount undoes Mount, even if the storage no longer answers, and leaves
	// the directory; one that was mounted Alone may wait for what has yet to be
	// written. What is not mounted is no error. It returns ErrInUse, and leaves
	// the mount, while a process of this host uses it.
	Unmount(ctx context.Context, handle, target string) error

	// Describe keeps text, at most MaxDescription bytes, with the pool's
	// volumes, under id, in place of what was there: at once and durably, or
	// not at all. Empty text takes it away. It is for the day on which the
	// cluster's records are lost; containers can't see it.
	Describe(ctx context.Context, id string, text []byte) error

	// Descriptions returns what Describe was given, by id. One that can't be
	// read is left out and joined to the error, beside which the others stand.
	Descriptions(ctx context.Context) (map[string][]byte, error)
}

// MaxDescription is the limit of what Describe takes.
const MaxDescription = 64 << 10

// Request is what a user asks for.
type Request struct {
	// ID is unique for all time in the cluster and fit to be a file name:
	// the volume's name, a dot, and 12 hexadecimal digits.
	ID string
	// Size in bytes that the volume may hold; 0 means no limit, or where it
	// always has one, the pool's usual.
	Size int64
	// Owner and permission bits of the volume's root, with setgid and sticky at
	// most; nil means root and 0755. Later, containers may change them.
	UID, GID *int
	Mode     *fs.FileMode
	// Adopt names an existing thing of the pool to take over, or is empty.
	Adopt string
	// Options are those which dvold itself gives no meaning.
	Options map[string]string
}

// Volume is what Create makes.
type Volume struct {
	Handle   string
	Adopted  bool // existed before; its data is never deleted
	Size     int64
	UID, GID *int
	Mode     *fs.FileMode
	Options  map[string]string
}

// Info is what a pool knows of a volume.
type Info struct {
	Size int64 // bytes; 0 means no limit
	Used int64 // bytes, or Size if it is more and the pool is not told how much; -1 means unknown
	// Location tells an operator where the data lies, such as a path.
	Location string
}

// MountOptions adjust one mount.
type MountOptions struct {
	ReadOnly bool
	// Alone asks for a file system that is mounted for this volume alone, so that
	// it can be ended with it. A backend whose volumes share one is free to
	// ignore it, and must then not be in a pool that says otherwise.
	Alone bool
	// Identity is what the pool's Fencer answered when this host became the owner
	// of the volume, or a Connecting one's Connect after that, and what it will be
	// cut off by, for the Backend that is that Fencer, which mounts it so that the
	// identity is true, or returns an error; nil if there is none, or the Fencer is another.
	Identity *Identity
}
