package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/dvol/dvold/test/lab"
)

// The stages that run inside a host.
const (
	stageSocket = "socket"
	stageEngine = "engine"
)

// options say what is measured, and where.
type options struct {
	dvold string // the binary; empty if it is yet to be built
	dir   string // the directory that the hosts' own are made in
}

// hosts takes all measures, on two hosts: one for dvold alone, one for dvold
// with an engine.
func hosts(ctx context.Context, o options) (r results, err error) {
	if missing := lab.Missing(); missing != "" {
		return r, fmt.Errorf("test hosts can't run here: %s", missing)
	}
	if o.dvold == "" {
		dir, err := os.MkdirTemp("", "bench")
		if err != nil {
			return r, err
		}
		defer os.RemoveAll(dir)
		o.dvold = filepath.Join(dir, "dvold")
		if err := build(ctx, o.dvold); err != nil {
			return r, err
		}
	}
	// Relative paths mean nothing inside a host.
	if o.dvold, err = filepath.Abs(o.dvold); err != nil {
		return r, err
	}
	h, err := boot(ctx, o)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(withLogs(err, h), h.Close()) }()
	if r.Facts, err = facts(ctx, h, o.dvold); err != nil {
		return r, err
	}
	if err := r.add(inside(ctx, h, stageSocket)); err != nil {
		return r, err
	}
	other, err := boot(ctx, o)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(withLogs(err, other), other.Close()) }()
	if err := r.add(withEngine(ctx, other)); err != nil {
		return r, err
	}
	load, err := loadAverage()
	r.Facts = append(r.Facts, "load at the end "+load)
	return r, err
}

// build makes dvold as hack/build does.
func build(ctx context.Context, binary string) error {
	version, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		version = []byte("dev") // not a checkout
	}
	flags := "-s -w -X main.version=" + strings.TrimSpace(string(version))
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", binary, "github.com/dvol/dvold/cmd/dvold")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build dvold: %w: %s", err, out)
	}
	return nil
}

// boot makes a host. The lab has its /run on its disk; here what dvold keeps
// there is in memory, as everywhere else.
func boot(ctx context.Context, o options) (*lab.Host, error) {
	h, err := lab.New(ctx, lab.Options{Dvold: o.dvold, Parent: o.dir})
	if err != nil {
		return nil, err
	}
	for _, argv := range [][]string{{"mkdir", "/run/dvol"}, {"mount", "-t", "tmpfs", "tmpfs", "/run/dvol"}} {
		if _, err := h.Exec(ctx, argv...); err != nil {
			return nil, errors.Join(err, h.Close())
		}
	}
	return h, nil
}

// withLogs adds to an error the end of what the daemons of a host have logged.
func withLogs(err error, h *lab.Host) error {
	if err == nil {
		return nil
	}
	logs := h.Logs()
	return fmt.Errorf("%w; host %s logged at last:\n%s", err, h.Name(), logs[max(0, len(logs)-2000):])
}

// inside runs a stage in a host.
func inside(ctx context.Context, h *lab.Host, stage string) (r results, err error) {
	fmt.Fprintln(os.Stderr, "measuring:", stage)
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	args := []string{self, "-stage", stage, "-state-dir", h.StateDir(), "--"}
	out, err := h.Exec(ctx, append(args, h.DvoldCommand()...)...)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return r, fmt.Errorf("read what stage %s measured: %w", stage, err)
	}
	return r, nil
}

// withEngine runs the stage that needs an engine.
func withEngine(ctx context.Context, h *lab.Host) (results, error) {
	if err := h.StartDvold(ctx, "--log-level", "info"); err != nil {
		return results{}, err
	}
	if err := h.StartDocker(ctx); err != nil {
		return results{}, err
	}
	if err := h.Image(ctx); err != nil {
		return results{}, err
	}
	return inside(ctx, h, stageEngine)
}
