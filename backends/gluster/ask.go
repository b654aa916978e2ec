package gluster

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
)

// question is whether the servers answer a client.
type question struct {
	client *client
	done   chan struct{} // closed once err is set
	err    error
}

// ask returns nil once the servers answer the client, or an error after some time:
// while they are silent, whatever is called waits for as long as they are given by
// the Gluster volume (network.ping-timeout), and can't be called off. There is one
// question at a time, however many wait for the answer.
func (s *shared) ask(ctx context.Context, c *client) error {
	s.mu.Lock()
	q := s.asked
	if q == nil || q.client != c {
		q = &question{client: c, done: make(chan struct{})}
		s.asked = q
		go func() {
			var st unix.Statfs_t // clients keep no answer to this
			q.err = unix.Statfs(c.mountpoint, &st)
			s.mu.Lock()
			if s.asked == q {
				s.asked = nil
			}
			s.mu.Unlock()
			close(q.done)
		}()
	}
	s.mu.Unlock()
	limit := time.NewTimer(s.wait)
	defer limit.Stop()
	select {
	case <-q.done:
		if q.err != nil {
			return &os.PathError{Op: "statfs", Path: c.mountpoint, Err: q.err}
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the servers of Gluster volume %s don't answer: %w: %w", s.volume, backends.ErrUnavailable, context.Cause(ctx))
	case <-limit.C:
		return fmt.Errorf("the servers of Gluster volume %s don't answer (mount_timeout, %v): %w", s.volume, s.wait, backends.ErrUnavailable)
	}
}
