package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/dvol/dvold/test/lab"
)

// The stages that run inside a host.
const (
	stageSocket  = "socket"
	stageEngine  = "engine"
	stageGluster = "gluster"
	stageFiles   = "files"
	stageImages  = "images"
	stageNFS     = "nfs"
)

// hosts takes the measures of a host that is alone, on two of them: one for dvold alone, one for dvold
// with an engine.
func hosts(ctx context.Context, o options) (r results, err error) {
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

// boot makes a host.
func boot(ctx context.Context, o options) (*lab.Host, error) {
	h, err := lab.New(ctx, lab.Options{Dvold: o.dvold, Parent: o.dir})
	if err != nil {
		return nil, err
	}
	if err := runInMemory(ctx, h); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// runInMemory has what dvold keeps in /run in memory, as everywhere else. The
// lab has its /run on its disk.
func runInMemory(ctx context.Context, h *lab.Host) error {
	for _, argv := range [][]string{{"mkdir", "/run/dvol"}, {"mount", "-t", "tmpfs", "tmpfs", "/run/dvol"}} {
		if _, err := h.Exec(ctx, argv...); err != nil {
			return err
		}
	}
	return nil
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
