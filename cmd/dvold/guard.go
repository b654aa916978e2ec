package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/dvol/dvold/internal/config"
	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/guard"
)

func guardCommand(stderr io.Writer) *cobra.Command {
	c := &cobra.Command{
		Use:   "guard",
		Short: "Cut off exclusive volumes that this host has lost",
		Long: `Cut this host off from exclusive volumes whose lease is over, or that another
host has taken over, until SIGTERM or SIGINT: kill who can write to them,
unmount them, and reboot the machine if that can't be verified in time.

It runs beside dvold serve, with the same configuration, in a service of its
own, and goes on when dvold is dead or frozen. Only while it runs do other hosts
take volumes over by lease alone. Where it doesn't, dvold serve does the same.`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			cfg, err := config.Load(c.Flags())
			if err != nil {
				return err
			}
			w := guard.NewWriter(stderr)
			defer func() { err = errors.Join(err, w.Close()) }()
			log := newLogger(w, cfg.Log)
			settings := guardConfig(cfg)
			if err := settings.Validate(c.Context()); err != nil { // others rely on there being a guard
				log.Error("the kernel's own reboot takes the place of the command", "err", err)
				settings.RebootCommand = ""
			}
			guard.Harden(log)
			return runGuard(c.Context(), settings, log)
		},
	}
	config.Flags(c.Flags())
	return c
}

func runGuard(ctx context.Context, c guard.Config, log *slog.Logger) error {
	c.Ready = func() {
		log.Info("guard started", "version", version, "dir", c.Dir, "cut_time", c.CutTime, "pid", os.Getpid())
		notify(log, daemon.SdNotifyReady)
	}
	return guard.Run(ctx, c, &cut.Cutter{Log: log}, log)
}

// guardConfig is what guards of this host are told, dvold's own included.
func guardConfig(cfg config.Config) guard.Config {
	return guard.Config{
		Dir: filepath.Join(cfg.RunDir, "guard"), CutTime: cfg.Guard.CutTime.Duration,
		RebootCommand: cfg.Guard.RebootCommand, Watchdog: cfg.Guard.Watchdog,
	}
}

// checkGuard returns an error that names the setting of the guard that is at fault.
func checkGuard(ctx context.Context, cfg config.Config) error {
	if err := guardConfig(cfg).Validate(ctx); err != nil {
		return fmt.Errorf("guard.%w", err)
	}
	return nil
}
