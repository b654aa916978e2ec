package lab

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"
)

// newDriver describes the host's dvold.
func newDriver(h *Host) *Daemon {
	answers := func(ctx context.Context) error {
		return ask(ctx, h.Path("run/docker/plugins/dvol.sock"), http.MethodPost, "/Plugin.Activate")
	}
	return &Daemon{
		name: "dvold", m: h.Machine, answers: answers, patience: 90 * time.Second,
		argv: func(args []string) []string { return slices.Concat(h.clock, h.DvoldCommand(args...)) },
	}
}

// StateDir is dvold's state directory.
func (h *Host) StateDir() string { return h.Path("dvol") }

// Configure writes dvold's configuration file, which is read when dvold starts.
// Inside the host it is /etc/dvol/dvold.yaml.
func (h *Host) Configure(yaml string) error {
	if err := os.WriteFile(h.Path("etc/dvol/dvold.yaml"), []byte(yaml), 0o644); err != nil {
		return fmt.Errorf("configure dvold on %s: %w", h.name, err)
	}
	return nil
}

// DvoldCommand is the command line that StartDvold runs, on a host whose clock is right.
func (h *Host) DvoldCommand(args ...string) []string {
	return append([]string{h.dvold, "serve", "--state-dir", h.StateDir(), "--log-level", "debug"}, args...)
}

// StartDvold starts dvold with additional arguments and waits until it answers
// on its plugin socket. One that runs already is an error.
func (h *Host) StartDvold(ctx context.Context, args ...string) error {
	return h.Driver.Start(ctx, args...)
}

// StopDvold ends dvold as an operator would. It returns an error if dvold says
// that it did not end well.
func (h *Host) StopDvold() error { return h.Driver.Stop() }

// KillDvold ends dvold, and it alone, as a crash would.
func (h *Host) KillDvold() error { return h.Driver.Kill() }

// FreezeDvold stops dvold, which keeps its sockets and answers nothing any
// more, until KillDvold ends it.
func (h *Host) FreezeDvold() error { return h.Driver.Freeze() }

// Dvold runs a dvold command, as Exec does.
func (h *Host) Dvold(ctx context.Context, args ...string) (string, error) {
	return h.Exec(ctx, append([]string{h.dvold}, args...)...)
}
