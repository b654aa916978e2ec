package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// Daemon is a program that may run on a machine: dockerd, dvold, its guard,
// Consul, sshfs, sshd, glusterd, or one of Ceph's. Its methods must not be called concurrently.
type Daemon struct {
	name     string
	m        *Machine
	argv     func(args []string) []string    // its command line with additional arguments
	answers  func(ctx context.Context) error // nil once it is ready
	patience time.Duration                   // for answers
	prepare  func(cmd *exec.Cmd) error       // before it starts; may be nil

	p      *process // nil unless started since the machine booted
	frozen bool     // alone; that it is if its machine is, the machine knows
}

// Start starts the daemon with additional arguments and waits until it answers.
// One that runs already is an error.
func (d *Daemon) Start(ctx context.Context, args ...string) error {
	if err := d.launch(ctx, args); err != nil {
		return err
	}
	return d.wait(ctx)
}

// launch starts the daemon and doesn't wait.
func (d *Daemon) launch(ctx context.Context, args []string) error {
	if d.Running() {
		return d.failed("start", errors.New("it runs"))
	}
	// Without ctx: the daemon is to outlive it.
	cmd := d.m.Command(context.WithoutCancel(ctx), d.argv(args)...)
	if d.prepare != nil {
		err := d.prepare(cmd)
		for _, f := range cmd.ExtraFiles {
			defer f.Close()
		}
		if err != nil {
			return d.failed("start", err)
		}
	}
	// Inside: a file opened outside is behind a mount that no table of the machine has, and
	// who has it looks like somebody who may write to a volume on the same disk.
	var log *os.File
	err := d.m.inside(unix.CLONE_NEWNS, func() (err error) {
		log, err = openLog(d.log())
		return err
	})
	if err != nil {
		return d.failed("start", err)
	}
	defer log.Close()
	p, err := startProcess(cmd, func() error { return d.m.Start(cmd) }, log, nil)
	if err != nil {
		return d.failed("start", err)
	}
	d.p, d.frozen = p, false
	return nil
}

// wait waits until the daemon, which was launched, answers.
func (d *Daemon) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	if err := waitFor(ctx, d.p, func() error { return d.answers(ctx) }); err != nil {
		return d.failed("start", err)
	}
	return nil
}

// Name is what the daemon is called: dockerd, dvold, guard, consul, sshfs,
// sshd, glusterd, mon, osd, mgr or mds.
func (d *Daemon) Name() string { return d.name }

// Running tells whether the daemon runs or is frozen.
func (d *Daemon) Running() bool { return d.p != nil && !d.p.ended() }

// Stop ends the daemon as an operator would. It returns an error if the daemon
// says that it did not end well.
func (d *Daemon) Stop() error { return d.signal("stop", (*process).terminate) }

// Kill ends the daemon, and it alone, as a crash would.
func (d *Daemon) Kill() error { return d.signal("kill", (*process).kill) }

// Freeze stops the daemon, which keeps its sockets and answers nothing any
// more. Thaw lets it go on, Kill ends it.
func (d *Daemon) Freeze() error {
	err := d.signal("freeze", (*process).freeze)
	d.frozen = d.frozen || err == nil
	return err
}

// Thaw lets a frozen daemon go on.
func (d *Daemon) Thaw() error {
	err := d.signal("thaw", (*process).thaw)
	d.frozen = d.frozen && err != nil
	return err
}

// Frozen tells whether the daemon is frozen, and it alone.
func (d *Daemon) Frozen() bool { return d.Running() && d.frozen }

func (d *Daemon) signal(what string, do func(*process) error) error {
	if d.p == nil {
		return d.failed(what, errors.New("it was never started"))
	}
	if err := do(d.p); err != nil {
		return d.failed(what, err)
	}
	return nil
}

func (d *Daemon) failed(what string, err error) error {
	return fmt.Errorf("%s %s on %s: %w", what, d.name, d.m.name, err)
}

// forget makes sure that the daemon ended together with its machine.
func (d *Daemon) forget() error {
	if d.p == nil {
		return nil
	}
	if err := d.p.kill(); err != nil {
		return d.failed("kill", err)
	}
	d.p = nil
	return nil
}

// log is the file that the daemon's output goes to.
func (d *Daemon) log() string { return d.m.Path(d.name + ".log") }

// logged returns what the daemon has logged after the first so many bytes.
func (d *Daemon) logged(after int64) string {
	b, err := os.ReadFile(d.log())
	if err != nil || int64(len(b)) <= after {
		return "" // never started, or silent
	}
	return fmt.Sprintf("--- %s of %s ---\n%s", d.name, d.m.name, b[after:])
}

// logSize tells how much the daemon has logged so far.
func (d *Daemon) logSize() int64 {
	fi, err := os.Stat(d.log())
	if err != nil {
		return 0 // never started
	}
	return fi.Size()
}
