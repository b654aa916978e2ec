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
// is ended. One of another configuration serves what is bound out of it, and nothing new.
package fuseclient

import (
	"context"
	"log/slog"
	"time"

	"github.com/dvol/dvold/internal/host"
)

// Kind tells the clients of one kind of file system from all other processes and
// mounts.
type Kind struct {
	Program string // the name of the program, without a directory
	FSType  string // what mount tables call its file system
	// EndTime is how long a client may take to end once its file system is gone, for
	// which it may have to tell its servers what it still has.
	EndTime time.Duration
	// HandlesCrashes says that the program has handlers for the signals of its own mistakes,
	// and blocks those nowhere else: a client that does not come out of such a handler is
	// killed.
	HandlesCrashes bool
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
	// Shows are the arguments, each NAME=VALUE, by which a shared client shows another file
	// system, or another directory of it, than one of that key did whose pool had another
	// configuration; NAME= is one that it is started without.
	Shows []string
	// Name is the file system's, for people, as in "Gluster volume gv0".
	Name string
	// Ask is a program, with its arguments, that fails unless the servers of the file
	// system have answered which is mounted at its last argument, a mountpoint; nil
	// means statfs(2).
	Ask []string
	// CutOff, unless it is nil, tells of a client that did not answer Ask well whether its
	// servers refuse it for good, as one that they took for dead. Such a client is
	// replaced.
	CutOff func(host.Process) bool
	// Silence is what it may mean that the file system does not answer, as a clause.
	Silence string
	// Log is the file that clients write to what goes wrong.
	Log string
	// Bury, unless it is nil, is called once a client that was started for mountpoint has
	// been killed, or has ended and another is to take its place: servers may keep from
	// others what it had in use, until they are told.
	Bury func(ctx context.Context, mountpoint string) error
}

// bury has the servers know of a client that has ended. Without that what takes its place
// has to wait.
func (s Spec) bury(ctx context.Context, mountpoint string, log *slog.Logger) {
	if s.Bury == nil {
		return
	}
	if err := s.Bury(ctx, mountpoint); err != nil {
		log.Warn("servers were not told of a client that has ended; what it had in use may wait", "mountpoint", mountpoint, "err", err)
	}
}

// asking is Ask, or what stands for none.
func (s Spec) asking() []string {
	if len(s.Ask) > 0 {
		return s.Ask
	}
	return []string{"stat", "--file-system"}
}
