package lab

import (
	"context"
	"fmt"
	"net/http"
	"syscall"
	"time"
)

const dvoldLog = "dvold.log"

// StateDir is dvold's state directory.
func (h *Host) StateDir() string { return h.Path("dvol") }

// DvoldCommand is the command line that StartDvold runs.
func (h *Host) DvoldCommand(args ...string) []string {
	return append([]string{h.dvold, "serve", "--state-dir", h.StateDir(), "--log-level", "debug"}, args...)
}

// StartDvold starts dvold with additional arguments and waits until it answers
// on its plugin socket. One that runs already is an error.
func (h *Host) StartDvold(ctx context.Context, args ...string) error {
	if h.daemon != nil && !h.daemon.ended() {
		return fmt.Errorf("start dvold on %s: it runs", h.name)
	}
	// Without ctx: the daemon is to outlive it.
	cmd := h.command(context.WithoutCancel(ctx), h.DvoldCommand(args...)...)
	var err error
	h.daemon, err = startProcess(cmd, func() error { return h.start(cmd) }, h.Path(dvoldLog))
	if err != nil {
		return fmt.Errorf("start dvold on %s: %w", h.name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = waitFor(ctx, h.daemon, func() error {
		return ask(ctx, h.Path("run/docker/plugins/dvol.sock"), http.MethodPost, "/Plugin.Activate")
	})
	if err != nil {
		return fmt.Errorf("start dvold on %s: %w", h.name, err)
	}
	return nil
}

// StopDvold ends dvold as an operator would. It returns an error if dvold says
// that it did not end well.
func (h *Host) StopDvold() error {
	if err := h.daemon.terminate(); err != nil {
		return fmt.Errorf("stop dvold on %s: %w", h.name, err)
	}
	return nil
}

// KillDvold ends dvold, and it alone, as a crash would.
func (h *Host) KillDvold() error {
	if err := h.daemon.kill(); err != nil {
		return fmt.Errorf("kill dvold on %s: %w", h.name, err)
	}
	return nil
}

// Dvold runs a dvold command, as Exec does.
func (h *Host) Dvold(ctx context.Context, args ...string) (string, error) {
	return h.Exec(ctx, append([]string{h.dvold}, args...)...)
}

// FreezeDvold stops dvold, which keeps its sockets and answers nothing any
// more. KillDvold ends it.
func (h *Host) FreezeDvold() error {
	if err := h.daemon.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("freeze dvold on %s: %w", h.name, err)
	}
	return nil
}
