//go:build !(ceph && cgo)

package cephfs

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
)

// hasLibraries says that this program was built with the libraries of Ceph.
const hasLibraries = false

// FencingPool would be a Pool whose cluster can be told to refuse clients.
type FencingPool struct{ *Pool }

func (p FencingPool) evict(context.Context, string) error { return errNoLibraries }

func (p FencingPool) statusOf(context.Context, string) (status, error) {
	return status{}, errNoLibraries
}

// Fencing returns an error, for it takes the libraries of Ceph.
func (p *Pool) Fencing(*slog.Logger) (FencingPool, error) {
	return FencingPool{}, errNoLibraries
}

// manager would be the cluster's.
type manager struct{}

func openManager(Config, *slog.Logger) (*manager, error) { return nil, errNoLibraries }

func (*manager) create(context.Context, string, int64, fs.FileMode) error { return errNoLibraries }

func (*manager) resize(context.Context, string, int64) error { return errNoLibraries }

func (*manager) remove(context.Context, string) error { return errNoLibraries }

func (*manager) close() error { return nil }

var errNoLibraries = errors.New("it takes the libraries of Ceph, without which this dvold was built")
