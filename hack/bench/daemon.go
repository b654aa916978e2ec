package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// daemon is a dvold that bench starts, stops and starts again inside a host.
// All its mounts are made by bench, which takes the engine's place: the lab's
// own dvold would take them for those of an engine that is gone as soon as a
// stage has ended.
type daemon struct {
	argv []string
	log  string
	dvol plugin

	cmd *exec.Cmd // nil unless started
}

func newDaemon(argv []string, stateDir string) *daemon {
	return &daemon{
		argv: append(argv, "--log-level", "info"), // as users do
		log:  filepath.Join(filepath.Dir(stateDir), "dvold.log"),
		dvol: plugin{newClient(pluginSocket)},
	}
}

// start starts dvold and waits until it answers.
func (d *daemon) start(ctx context.Context) error {
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	d.cmd = exec.Command(d.argv[0], d.argv[1:]...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for d.dvol.activate(ctx) != nil {
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("start dvold: %w", context.Cause(ctx)), d.stop())
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// stop ends dvold as an operator does.
func (d *daemon) stop() error {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop dvold: %w", err)
	}
	if err := d.cmd.Wait(); err != nil {
		return fmt.Errorf("stop dvold: %w", err)
	}
	return nil
}

// restarts measures how long dvold takes to answer, and leaves it running.
func (d *daemon) restarts(ctx context.Context, what string, s series) error {
	for range 10 {
		if err := d.stop(); err != nil {
			return err
		}
		if err := s.time(what, func() error { return d.start(ctx) }); err != nil {
			return err
		}
	}
	return nil
}
