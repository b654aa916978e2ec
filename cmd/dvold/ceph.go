//go:build ceph && cgo

package main

import (
	"log/slog"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/rbd"
	"github.com/dvol/dvold/internal/config"
)

// cephOpener is backendOpener for the types of pool that need Ceph's libraries.
func cephOpener(name string, cfg config.Config) (opener, error) {
	c := rbd.DefaultConfig()
	if err := settle(name, cfg.Pools[name], &c); err != nil {
		return opener{}, err
	}
	open := func(log *slog.Logger) (backends.Backend, error) { return rbd.Open(c, name, cfg.RunDir, log) }
	return opener{location: c.Location(), shared: true, alone: true, oneWriter: true, fences: true, open: open}, nil
}
