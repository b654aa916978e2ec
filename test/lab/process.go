package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// process is one that the lab started and alone ends.
type process struct {
	cmd  *exec.Cmd
	log  string        // its standard error, and output unless piped
	done chan struct{} // closed when it has ended and was reaped
	err  error         // how it ended; read it after done
}

// openLog opens a file to which output is appended.
func openLog(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
}

// startProcess starts cmd by calling start, with its output in log. Once it has ended, after is
// called, if it is not nil. It is of a session of its own: what is typed at a terminal is for who
// made the lab, to end it in order.
func startProcess(cmd *exec.Cmd, start func() error, log *os.File, after func()) (*process, error) {
	cmd.Stderr = log
	if cmd.Stdout == nil {
		cmd.Stdout = log
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Setsid = true
	if err := start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, log: log.Name(), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
		if after != nil {
			after()
		}
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// terminate asks the process to end and waits until it has. One that takes too
// long is killed, and that is an error, as is a failure of the process.
func (p *process) terminate() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	const patience = 60 * time.Second
	select {
	case <-p.done:
		return p.err
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("pid %d still ran %v after SIGTERM", p.pid(), patience), p.kill())
	}
}

// freeze stops the process, which keeps its sockets and answers nothing any
// more; thaw lets it go on.
func (p *process) freeze() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }
func (p *process) thaw() error   { return p.cmd.Process.Signal(syscall.SIGCONT) }

// kill ends the process at once and waits until the kernel is through with it.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	const patience = 30 * time.Second
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("pid %d still there %v after SIGKILL", p.pid(), patience)
	}
}

// ended tells whether the process is gone.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}
