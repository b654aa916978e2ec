package cut

import (
	"context"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
)

func isFUSE(kind string) bool { return kind == "fuse" || strings.HasPrefix(kind, "fuse.") }

// abort ends a FUSE connection, which is the number of the file system, and
// returns who served it: nothing that they have in memory may be sent any more
// either.
func (c *Cutter) abort(ctx context.Context, connection int) (serving []host.Process, err error) {
	maybe, err := servers(ctx, connection)
	if err != nil {
		return nil, err
	}
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
	sure   bool // the kernel says that it is the one that was looked for
}

// servers returns who serves a connection, or, before Linux 6.16, whoever
// serves any.
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
				if s.sure || !s.disconnected() {
					found = append(found, s)
				}
			}
			return nil
		})
	})
	return found, err
}

// disconnected tells whether the connection has ended, or never begun.
func (s server) disconnected() bool {
	handle, err := unix.PidfdOpen(s.PID, 0)
	if err != nil {
		return false
	}
	defer unix.Close(handle)
	fd, err := unix.PidfdGetfd(handle, s.number, 0)
	if err != nil || !s.Alive() {
		return false
	}
	defer unix.Close(fd)
	fds := []unix.PollFd{{Fd: int32(fd)}}
	_, err = unix.Poll(fds, 0)
	return err == nil && fds[0].Revents&unix.POLLERR != 0
}
