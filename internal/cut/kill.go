package cut

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
)

// Victim is a process that was killed.
type Victim struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	Why     string `json:"why"` // as in "has /run/dvol/mnt/db-0123456789ab/file open"
}

// endPatience is how long those that were killed are waited for, before others
// are looked for again.
const endPatience = time.Second

// doomed is a process that was killed and may not have ended yet. Its files
// are closed, and what it was writing is written, only when it has.
type doomed struct {
	Victim
	handle int // a pidfd
}

// hunt kills whoever can write to a target, as it is found. It tells whether it
// met somebody, and returns what is left: whom it must not kill, and who does
// not end.
func (r *run) hunt(ctx context.Context, l *look) (met bool, left []string, err error) {
	err = l.holders(ctx, func(h holder, d dir) error {
		if ctx.Err() != nil { // nobody may want it any more
			return context.Cause(ctx)
		}
		met = true
		if h.protected {
			left = append(left, h.String())
		} else if err := r.kill(h, d); err != nil && !vanished(err) {
			left = append(left, fmt.Sprintf("%v and can't be killed: %v", h, err))
		}
		return nil
	})
	if err != nil {
		return met, left, err
	}
	dying, err := r.bury(ctx)
	return met, append(left, dying...), err
}

// kill kills the process of a directory, whom h names, unless that was done
// before.
func (r *run) kill(h holder, d dir) error {
	if _, ok := r.dying[h.Process]; ok {
		return nil
	}
	handle, err := unix.PidfdOpen(h.PID, 0)
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	// As long as its directory shows something, no other has got its number.
	if _, err = d.status(); err == nil {
		err = os.NewSyscallError("pidfd_send_signal", unix.PidfdSendSignal(handle, unix.SIGKILL, nil, 0))
	}
	if err != nil {
		unix.Close(handle)
		return err
	}
	v := Victim{h.PID, h.command, h.why}
	r.dying[h.Process] = doomed{v, handle}
	r.note(func(report *Report) { report.Killed = append(report.Killed, v) })
	r.log.Warn("process was killed", "volume", r.v.ID, "pid", v.PID, "command", v.Command, "why", v.Why)
	return nil
}

// bury waits until those that were killed have ended, not without end, and
// returns those that have not.
func (r *run) bury(ctx context.Context) (left []string, err error) {
	deadline := time.Now().Add(endPatience)
	for len(r.dying) > 0 {
		wait := time.Until(deadline)
		if end, ok := ctx.Deadline(); ok {
			wait = min(wait, time.Until(end))
		}
		if wait <= 0 || ctx.Err() != nil {
			break
		}
		if err := r.poll(min(wait, 50*time.Millisecond)); err != nil {
			return nil, err
		}
	}
	for p, d := range r.dying {
		left = append(left, fmt.Sprintf("process %d (%s), which was killed and has not ended%s", p.PID, d.Command, stateOf(p)))
	}
	return left, nil
}

// poll waits until one of those that were killed has ended, and forgets those
// that have.
func (r *run) poll(wait time.Duration) error {
	var fds []unix.PollFd
	var processes []host.Process
	for p, d := range r.dying {
		fds = append(fds, unix.PollFd{Fd: int32(d.handle), Events: unix.POLLIN})
		processes = append(processes, p)
	}
	_, err := unix.Poll(fds, max(1, int(wait.Milliseconds())))
	if err != nil && err != unix.EINTR {
		return os.NewSyscallError("poll", err)
	}
	for i, fd := range fds {
		if fd.Revents != 0 {
			unix.Close(int(fd.Fd))
			delete(r.dying, processes[i])
		}
	}
	return nil
}

// stateOf says in what state the threads of a process are that have not ended,
// for people.
func stateOf(p host.Process) string {
	d, err := openDir(fmt.Sprintf("/proc/%d", p.PID))
	if err != nil {
		return ""
	}
	defer d.close()
	s, err := d.status()
	if err != nil || s.start != p.Start {
		return ""
	}
	tids, err := d.names("task")
	if err != nil {
		return ""
	}
	for _, tid := range tids {
		t, err := d.open("task/" + tid)
		if err != nil {
			continue
		}
		s, err := t.status()
		t.close()
		if err == nil && !s.ended() {
			return fmt.Sprintf(" (state %c)", s.state)
		}
	}
	return ""
}
