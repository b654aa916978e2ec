package cut

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/hang"
	"github.com/dvol/dvold/internal/host"
)

func isFUSE(kind string) bool { return kind == "fuse" || strings.HasPrefix(kind, "fuse.") }

// abort ends a FUSE connection, which is the number of the file system, and takes
// down who served it: nothing that they have in memory may be sent any more
// either. One that was aborted before it leaves at that: who is found then may
// have served an earlier one of the number.
func (r *run) abort(ctx context.Context, key string, connection int) error {
	inode, err := r.c.connections.inode(connection)
	if err == nil && inode != 0 && r.aborted[connection] == inode {
		return nil
	}
	// To look at all processes takes its time, but does not hang.
	maybe, err := r.serversOf(ctx, connection, inode)
	if err != nil {
		return err
	}
	ctx, cancel := quickly(ctx)
	defer cancel()
	serving, err := hang.Call(ctx, &r.c.calls, key, func() ([]host.Process, error) { return r.c.abort(ctx, connection, maybe) }, nil)
	if err != nil {
		return err
	}
	for _, p := range serving {
		r.serving[p] = true
	}
	r.aborted[connection] = inode
	return nil
}

// serviced returns the FUSE file systems which are the volume's alone, or lie
// behind one that is, and are not shut down yet. They are not unmounted before:
// nothing would tell any more who served them, and has in memory what is not sent
// yet. One that can't be shut down keeps the cut from being verified.
func (r *run) serviced(l *look) (left []string, err error) {
	for _, t := range r.targets {
		if t.sole && t.major == 0 && isFUSE(t.kind) && !r.shut[t.device()] && len(l.mountsOn(t)) > 0 {
			left = append(left, fmt.Sprintf("%v, which is not shut down", t))
		}
		_, ok, err := r.served(t)
		if err != nil {
			return nil, err
		}
		if ok && !r.shut[r.v.Behind.Device] {
			left = append(left, fmt.Sprintf("file system %s behind %v, which is not shut down", r.v.Behind.Device, t))
		}
	}
	return left, nil
}

// abort ends a FUSE connection and returns which of the servers, found before,
// served it.
func (c *Cutter) abort(ctx context.Context, connection int, maybe []server) (serving []host.Process, err error) {
	if ctx.Err() != nil { // nobody may want it any more
		return nil, context.Cause(ctx)
	}
	if err := c.connections.abort(connection); err != nil {
		return nil, err
	}
	for _, s := range maybe {
		if s.sure || s.disconnected() {
			serving = append(serving, s.Process)
		}
	}
	return serving, nil
}

// server is a descriptor by which a process serves a FUSE connection.
type server struct {
	host.Process
	number int
	sure   bool // the kernel says that it has the number that was looked for
	ended  bool // the connection has, or had never begun
}

// servers returns who serves a connection, or, before Linux 6.16, whoever
// serves any. One that has ended, as it was aborted before, counts as well.
func servers(ctx context.Context, connection int) (found []server, err error) {
	err = eachProcess(ctx, func(p *process) error {
		return p.eachThread(func(t thread) error {
			if !t.files {
				return nil
			}
			numbers, err := t.dir.names("fd")
			if err != nil {
				return err
			}
			for _, number := range numbers {
				path, err := t.dir.link("fd/" + number)
				if err != nil || path != "/dev/fuse" {
					continue
				}
				d, err := t.dir.descriptor(number)
				if err != nil || d.fuse != 0 && d.fuse != connection {
					continue
				}
				s := server{Process: p.identity(), sure: d.fuse != 0}
				if s.number, err = strconv.Atoi(number); err != nil {
					return err
				}
				s.ended = s.disconnected()
				if s.sure || !s.ended {
					found = append(found, s)
				}
			}
			return nil
		})
	})
	return current(found), err
}

// current leaves out who served an earlier file system that had the number: the
// kernel gives it to the next once that is unmounted, which is the end of its
// connection, but not of who served it and may have to send what was written to
// it. Of the one that has the number now all descriptors are connected, or none
// is; then there is nothing to tell them by.
func current(found []server) []server {
	// Asked after all the others, so that theirs have not ended in between.
	if !slices.ContainsFunc(found, func(s server) bool { return s.sure && !s.ended && s.connected() }) {
		return found
	}
	return slices.DeleteFunc(found, func(s server) bool { return s.sure && s.ended })
}

// connected tells whether the connection is known to have begun and not ended.
func (s server) connected() bool {
	events, ok := s.poll()
	return ok && events&unix.POLLERR == 0
}

// disconnected tells whether the connection is known to have ended, or never begun.
func (s server) disconnected() bool {
	events, ok := s.poll()
	return ok && events&unix.POLLERR != 0
}

// poll asks the descriptor for its state, as in poll(2), unless that can't be
// looked at.
func (s server) poll() (events int16, ok bool) {
	handle, err := unix.PidfdOpen(s.PID, 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(handle)
	fd, err := unix.PidfdGetfd(handle, s.number, 0)
	if err != nil || !s.Alive() {
		return 0, false
	}
	defer unix.Close(fd)
	fds := []unix.PollFd{{Fd: int32(fd)}}
	_, err = unix.Poll(fds, 0)
	return fds[0].Revents, err == nil
}
