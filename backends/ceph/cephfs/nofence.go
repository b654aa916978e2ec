//go:build !(ceph && cgo)

package cephfs

import (
	"context"
	"errors"
	"log/slog"
)

// canFence says that this program was built with the libraries of Ceph.
const canFence = false

// FencingPool would be a Pool whose cluster can be told to refuse clients.
type FencingPool struct{ *Pool }

func (p FencingPool) evict(context.Context, string) error { return errNoLibraries }

func (p FencingPool) evictKernel(context.Context, string) error { return errNoLibraries }

func (p FencingPool) statusOf(context.Context, string) (status, error) {
	return status{}, errNoLibraries
}

// Fencing returns an error, for it takes the libraries of Ceph.
func (p *Pool) Fencing(*slog.Logger) (FencingPool, error) {
	return FencingPool{}, errNoLibraries
}

var errNoLibraries = errors.New("a fence of Ceph takes its libraries, without which this dvold was built")
