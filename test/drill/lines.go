package main

import (
	"bytes"
	"context"
	"os/exec"
	"syscall"
	"time"
)

// lines is a writer that hands on whole lines, without their ends.
type lines struct {
	each func(string)
	rest []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		l.each(string(line))
		l.rest = rest
	}
}

// stream runs a command to its end, or that of ctx, and hands on its lines as they
// come. It ends with all that it has started here.
func stream(ctx context.Context, argv []string, out, errOut func(string)) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &lines{each: out}, &lines{each: errOut}
	// Of its own group, so that Ctrl-C on a terminal is for the drill alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	return cmd.Run()
}
