// Package fuseclient runs the clients of network file systems that are processes
// of this host, and serve the kernel through FUSE.
//
// All volumes of a pool are bound out of the file system of one client, which is
// [Shared], but for those that are exclusive: they have a client of their own each,
// which can be ended with them.
//
// Clients outlive dvold, and are found again by the mountpoint that each was started
// for: nothing is written down. A shared one that has ended is replaced, and what it
// served is served by the next, in running containers too. One that serves nothing
// is ended.
package fuseclient

import "context"

// Kind tells the clients of one kind of file system from all other processes and
// mounts.
type Kind struct {
	Program string // the name of the program, without a directory
	FSType  string // what mount tables call its file system
}

// FileSystem knows how a client of a file system is started.
type FileSystem interface {
	// Args returns the arguments of a client that stays in the foreground, but for
	// the mountpoint, which is its last. If a client would wait without end for
	// servers that say nothing, it first asks them for a word, and returns an error
	// that says which don't give one.
	Args(ctx context.Context) ([]string, error)

	// Cause says why a client did not come up, by what it wrote to its log and
	// outside of it; it is nil if that does not tell.
	Cause(said string) error
}

// Spec says what clients are to be started.
type Spec struct {
	Kind
	FileSystem
	// Name is the file system's, for people, as in "Gluster volume gv0".
	Name string
	// Silence is what it may mean that the file system does not answer, as a clause.
	Silence string
	// Log is the file that clients write to what goes wrong.
	Log string
}
