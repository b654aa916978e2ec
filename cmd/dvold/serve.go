package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/dvol/dvold/internal/adminapi"
	"github.com/dvol/dvold/internal/config"
	"github.com/dvol/dvold/internal/dockerapi"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/volumes"
)

// How long an end takes at most, one after the other. TimeoutStopSec of
// dvold.service is longer than all of it, or systemd would kill dvold.
const (
	drainTime = 110 * time.Second // for calls under way, longer than any may take
	closeTime = 10 * time.Second  // for calls that their callers have left
	leaveTime = 10 * time.Second  // the cluster's session has 5 s to end, in volumes, and what it left 5 s, in its coordinator
)

func serveCommand(stderr io.Writer) *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the volume driver in the foreground",
		Long: `Run the volume driver in the foreground, until SIGTERM or SIGINT.

Without a configuration it keeps volumes in the pool "local", below the state
directory, and serves this host alone. Volumes stay mounted when it ends; start
it again and it goes on with them.`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := config.Load(c.Flags())
			if err != nil {
				return err
			}
			// It runs on every host, for the others: memory goes before speed.
			debug.SetGCPercent(50)
			return serve(c.Context(), cfg, newLogger(stderr, cfg.Log))
		},
	}
	config.Flags(c.Flags())
	return c
}

// serve runs the daemon until ctx ends, then drains it.
func serve(ctx context.Context, cfg config.Config, log *slog.Logger) (err error) {
	if err := makeStateDir(cfg.StateDir); err != nil {
		return fmt.Errorf("make the state directory: %w", err)
	}
	lock, err := lockState(filepath.Join(cfg.StateDir, "dvold.lock"))
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := checkGuard(ctx, cfg); err != nil {
		return err
	}
	pools, err := openPools(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closePools(pools)) }()
	coord, err := openCoordinator(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, coord.Close()) }()
	background := context.WithoutCancel(ctx)
	manager, err := volumes.Open(background, volumes.Config{
		Host: cfg.Host, StateDir: cfg.StateDir, RunDir: cfg.RunDir, Pools: pools, DefaultPool: cfg.DefaultPool,
		CutTime: cfg.Guard.CutTime.Duration, Guard: guardConfig(cfg),
	}, coord, log)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(background, closeTime)
		defer cancel()
		err = errors.Join(err, manager.Close(ctx))
	}()
	docker, err := dockerapi.Listen(cfg.DockerSocket)
	if err != nil {
		return fmt.Errorf("docker socket: %w", err)
	}
	admin, err := host.ListenUnix(cfg.AdminSocket, 0o600)
	if err != nil {
		return errors.Join(fmt.Errorf("admin socket: %w", err), docker.Close())
	}
	log.Info("dvold started", "version", version, "host", cfg.Host, "docker_socket", docker.Addr().String(), "state_dir", cfg.StateDir, "pid", os.Getpid())
	return serveSockets(ctx, log,
		socket{docker, dockerapi.New(manager, log)},
		socket{admin, adminapi.New(manager, version, log)})
}

// server is what dockerapi and adminapi have in common.
type server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}

type socket struct {
	listener net.Listener
	server   server
}

// serveSockets serves until ctx ends or a server fails, then drains all.
func serveSockets(ctx context.Context, log *slog.Logger, sockets ...socket) error {
	failed := make(chan error, len(sockets))
	for _, s := range sockets {
		go func() { failed <- s.server.Serve(s.listener) }()
	}
	notify(log, daemon.SdNotifyReady)
	var err error
	serving := len(sockets)
	select {
	case <-ctx.Done():
		log.Info("dvold is draining")
	case err = <-failed:
		serving--
	}
	notify(log, daemon.SdNotifyStopping)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	for _, s := range sockets {
		err = errors.Join(err, s.server.Shutdown(drain))
	}
	for range serving {
		err = errors.Join(err, <-failed)
	}
	log.Info("dvold stopped")
	return err
}

// notify tells systemd, where it started us.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd was not notified", "state", state, "err", err)
	}
}

func newLogger(w io.Writer, c config.Log) *slog.Logger {
	var level slog.Level
	level.UnmarshalText([]byte(c.Level)) // checked by config
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
