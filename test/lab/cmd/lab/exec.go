package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/test/lab"
)

// exitError is the status that a command of the user ended with.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func execCommand(dir *string) *cobra.Command {
	c := &cobra.Command{
		Use:   "exec MACHINE COMMAND [ARGUMENT]...",
		Short: "Run a command on a machine, on this terminal, and exit as it does",
		Args:  cobra.MinimumNArgs(2),
		RunE:  func(_ *cobra.Command, args []string) error { return execute(*dir, args[0], args[1:]) },
	}
	c.Flags().SetInterspersed(false) // the rest is the command's
	return c
}

// execute enters the machine from this very process, so that the command has
// its terminal or pipes.
func execute(dir, name string, argv []string) error {
	m, err := lab.Open(dir, name)
	if err != nil {
		return err
	}
	cmd := m.Command(context.Background(), argv...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if term := os.Getenv("TERM"); term != "" {
		cmd.Env = append(cmd.Env, "TERM="+term)
	}
	// Terminal signals are the command's business; others are handed on.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP, unix.SIGTTOU)
	if foreground, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); err == nil && foreground == unix.Getpgrp() {
		// A shell on the other side wants a process group that it can see.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Foreground: true}
		signal.Ignore(unix.SIGTTOU)
		defer unix.IoctlSetPointerInt(0, unix.TIOCSPGRP, foreground)
	}
	if err := m.Start(cmd); err != nil {
		return err
	}
	go func() {
		for s := range signals {
			if s == unix.SIGTERM || s == unix.SIGHUP {
				cmd.Process.Signal(s)
			}
		}
	}()
	err = cmd.Wait()
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		return err
	}
	if status := ended.Sys().(syscall.WaitStatus); status.Signaled() {
		return exitError(128 + int(status.Signal()))
	}
	return exitError(ended.ExitCode())
}
