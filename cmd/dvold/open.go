package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephfs"
	"github.com/dvol/dvold/backends/command"
	"github.com/dvol/dvold/backends/gluster"
	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/backends/nfs"
	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/coordination/consul"
	"github.com/dvol/dvold/coordination/embedded"
	"github.com/dvol/dvold/internal/config"
	"github.com/dvol/dvold/internal/volumes"
)

// opener is the configuration of one pool, read and checked.
type opener struct {
	location  string
	place     place // of a pool of directories
	shared    bool
	alone     bool                                         // exclusive volumes have file systems of their own
	oneWriter bool                                         // no volume is shared
	fences    bool                                         // the backend is a Fencer
	open      func(*slog.Logger) (backends.Backend, error) // leaves the storage alone
	exclusive volumes.Exclusive
	command   *command.Config // that fences, or nil
}

// poolOpener reads what the configuration says of a pool.
func poolOpener(ctx context.Context, name string, cfg config.Config) (opener, error) {
	p := cfg.Pools[name]
	o, err := backendOpener(ctx, name, cfg)
	if err != nil {
		return opener{}, err
	}
	if o.command, err = fenceCommand(p.Exclusive); err == nil {
		o.exclusive, err = settleExclusive(p.Exclusive, o.fences || o.command != nil, cfg.Guard.Watchdog != "")
	}
	if err == nil && o.exclusive.AcceptLease {
		err = checkLease(cfg)
	}
	if err != nil {
		return opener{}, fmt.Errorf("pool %q: %w", name, err)
	}
	return o, nil
}

// backendOpener reads what a pool's configuration says of its backend: the one
// place that knows all types of pool.
func backendOpener(ctx context.Context, name string, cfg config.Config) (opener, error) {
	p := cfg.Pools[name]
	switch p.Type {
	case "local":
		c := local.DefaultConfig()
		if err := settle(name, p, &c); err != nil {
			return opener{}, err
		}
		open := func(log *slog.Logger) (backends.Backend, error) { return local.Open(c, log) }
		return opener{location: c.Path, place: findPlace(ctx, c.Path), shared: c.Shared, open: open}, nil
	case "gluster":
		c := gluster.DefaultConfig()
		if err := settle(name, p, &c); err != nil {
			return opener{}, err
		}
		fences, others := len(c.Management) > 0, beside(name, cfg, gluster.DefaultConfig)
		open := func(log *slog.Logger) (backends.Backend, error) {
			p, err := gluster.Open(c, name, cfg.RunDir, log)
			if err != nil {
				return nil, err
			}
			p.Beside(others)
			if !fences {
				return p, nil
			}
			return p.Fencing(), nil
		}
		return opener{location: c.Location(), place: placeIn(p.Type, c), shared: true, alone: true, fences: fences, open: open}, nil
	case "cephfs":
		c := cephfs.DefaultConfig()
		if err := settle(name, p, &c); err != nil {
			return opener{}, err
		}
		fences := c.Fencer != ""
		open := func(log *slog.Logger) (backends.Backend, error) {
			p, err := cephfs.Open(c, name, cfg.RunDir, log)
			if err != nil || !fences {
				return p, err
			}
			return p.Fencing(log)
		}
		return opener{location: c.Location(), place: placeIn(p.Type, c), shared: true, alone: true, fences: fences, open: open}, nil
	case "nfs":
		c := nfs.DefaultConfig()
		if err := settle(name, p, &c); err != nil {
			return opener{}, err
		}
		others := beside(name, cfg, nfs.DefaultConfig)
		open := func(log *slog.Logger) (backends.Backend, error) {
			p, err := nfs.Open(c, name, cfg.RunDir, log)
			if err != nil {
				return nil, err
			}
			p.Beside(others)
			return p, nil
		}
		return opener{location: c.Location(), place: placeIn(p.Type, c), shared: true, alone: true, open: open}, nil
	case "rbd":
		return cephOpener(name, cfg)
	}
	return opener{}, fmt.Errorf("pool %q: type %q is not one of: cephfs, gluster, local, nfs, rbd", name, p.Type)
}

// settle reads into c, the defaults of a backend, what a pool's configuration says.
func settle(name string, p config.Pool, c interface{ Validate() error }) error {
	if err := p.Decode(c); err != nil {
		return err
	}
	if err := c.Validate(); err != nil {
		return fmt.Errorf("pool %q: %w", name, err)
	}
	return nil
}

// beside reads what the configuration says of the other pools of a pool's type, by name.
// One that can't be read keeps dvold from starting by itself.
func beside[C any](name string, cfg config.Config, defaults func() C) map[string]C {
	all := make(map[string]C)
	for other, p := range cfg.Pools {
		c := defaults()
		if other != name && p.Type == cfg.Pools[name].Type && p.Decode(&c) == nil {
			all[other] = c
		}
	}
	return all
}

// fencer returns what cuts other hosts off from the pool, or nil.
func (o opener) fencer(name string, b backends.Backend, log *slog.Logger) backends.Fencer {
	if o.command != nil {
		return command.Open(*o.command, name, log)
	}
	f, _ := b.(backends.Fencer)
	return f
}

// poolOpeners reads what the configuration says of all pools, by name.
func poolOpeners(ctx context.Context, cfg config.Config) (map[string]opener, error) {
	all := make(map[string]opener)
	for _, name := range slices.Sorted(maps.Keys(cfg.Pools)) {
		o, err := poolOpener(ctx, name, cfg)
		if err != nil {
			return nil, err
		}
		all[name] = o
	}
	own := map[string]place{"state_dir": findPlace(ctx, cfg.StateDir), "run_dir": findPlace(ctx, cfg.RunDir)}
	return all, checkPlaces(own, all)
}

// openPools opens all configured pools.
func openPools(ctx context.Context, cfg config.Config, log *slog.Logger) ([]volumes.Pool, error) {
	openers, err := poolOpeners(ctx, cfg)
	if err != nil {
		return nil, err
	}
	var pools []volumes.Pool
	for name, o := range openers {
		p, err := openPool(name, o, cfg, log)
		if err != nil {
			return nil, errors.Join(err, closePools(pools))
		}
		pools = append(pools, p)
		if o.place.open {
			log.Warn("other users of this host reach the pool's volumes, and can run as root what root of a container left there: chmod 0700 "+p.Location, "pool", name)
		}
	}
	return pools, nil
}

func openPool(name string, o opener, cfg config.Config, log *slog.Logger) (volumes.Pool, error) {
	log = log.With("pool", name)
	b, err := o.open(log)
	if err != nil {
		return volumes.Pool{}, fmt.Errorf("open pool %q: %w", name, err)
	}
	c, ttl := cfg.Pools[name], cfg.TrashTTL
	if c.TrashTTL != nil {
		ttl = *c.TrashTTL
	}
	return volumes.Pool{
		Name: name, Type: c.Type, Location: o.location, Shared: o.shared, Alone: o.alone, OneWriter: o.oneWriter, Backend: b, TrashTTL: ttl.Duration,
		Exclusive: o.exclusive, Fencer: o.fencer(name, b, log),
	}, nil
}

// closePools closes the backends that hold something open.
func closePools(pools []volumes.Pool) error {
	var errs []error
	for _, p := range pools {
		if c, ok := p.Backend.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// openCoordinator is the one place that knows all kinds of coordinator.
func openCoordinator(ctx context.Context, cfg config.Config, log *slog.Logger) (coordination.Coordinator, error) {
	switch c := cfg.Coordination; c.Type {
	case "embedded":
		return embedded.Open(ctx, embedded.Config{Path: filepath.Join(cfg.StateDir, "cluster.db")}, log)
	case "consul":
		return consul.Open(consul.Config{
			Addresses: c.Addresses, Prefix: c.Prefix, TokenFile: c.TokenFile, TTL: c.LeaseTTL.Duration,
			TLS: consul.TLS{CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, ServerName: c.ServerName},
		}, log)
	}
	return nil, fmt.Errorf("coordination type %q is not one of: embedded, consul", cfg.Coordination.Type)
}
