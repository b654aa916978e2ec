package fuseclient

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
)

const (
	// crashInterval is how often clients are looked at that may have crashed.
	crashInterval = 5 * time.Second
	// crashTime is how long one may take to write down where it was.
	crashTime = 8 * time.Second
)

// crashes are the signals that a program gets by a mistake of its own.
var crashes = [...]unix.Signal{unix.SIGILL, unix.SIGABRT, unix.SIGBUS, unix.SIGFPE, unix.SIGSEGV, unix.SIGSYS}

// tendCrashed sees to clients that have crashed until ctx ends.
func (s *Clients) tendCrashed(ctx context.Context) {
	tick := time.NewTicker(crashInterval)
	defer tick.Stop()
	var since map[host.Process]time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var err error
		if since, err = s.endCrashed(since); err != nil {
			s.log.Warn("it is not known whether clients have crashed", "err", err)
		}
	}
}

// endCrashed kills the clients that have crashed and do not end: GlusterFS's takes locks in
// the handler of such a signal, which the thread that was hit may have already. It serves
// nobody any more and keeps all who wait for it. It takes, and returns, since when each has been
// seen so.
func (s *Clients) endCrashed(since map[host.Process]time.Time) (map[host.Process]time.Time, error) {
	all, err := s.config.Below(s.config.Dir)
	if err != nil {
		return since, err
	}
	now := make(map[host.Process]time.Time)
	var failures []error
	for _, processes := range all {
		for _, p := range processes {
			crashed, err := p.InHandler(crashes[:]...)
			if err != nil || !crashed {
				failures = append(failures, err)
				continue
			}
			begin, known := since[p]
			if !known {
				begin = time.Now()
			}
			now[p] = begin
			if time.Since(begin) < crashTime {
				continue
			}
			s.log.Error("client has crashed and does not end, and is killed: see its log", "process", p.PID)
			failures = append(failures, kill(p))
		}
	}
	return now, errors.Join(failures...)
}
