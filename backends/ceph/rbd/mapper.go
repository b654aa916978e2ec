//go:build ceph && cgo

package rbd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"

	"github.com/dvol/dvold/backends/ceph"
)

// mapper makes images block devices of this host. Each mapping is a client of the
// cluster by itself, outlives dvold, and is found again by its image.
type mapper interface {
	// find returns the mapping of an image, or nil if there is none that is complete.
	find(i image) (*mapping, error)

	// all are the images that are mapped, also by an earlier dvold. It asks nothing of them.
	all() ([]image, error)

	// attach maps an image that is not mapped. After an error there may be parts,
	// which detach takes away.
	attach(ctx context.Context, i image, readOnly bool) (*mapping, error)

	// detach takes away what there is of a mapping, once all that was written is with
	// the cluster. It returns ErrInUse, and leaves it, while a file system of the
	// device is mounted anywhere on this host. It is no error if there is none.
	detach(ctx context.Context, i image) error

	// abandoner returns what ends the client that serves the mapping now, and none that
	// comes later: all that is asked of its device fails then, and does not wait any more
	// for what the cluster refuses, and what is mounted of it can be unmounted.
	abandoner(i image) (abandon func() error, err error)

	// refresh has the device be as large as the image is.
	refresh(i image, m *mapping) error

	// peers are the addresses of the cluster's servers that the process is connected to
	// which serves the mapping, if one does.
	peers(ctx context.Context, i image) ([]netip.Addr, error)
}

// mapping is an image as a block device.
type mapping struct {
	block
	readOnly bool
	ended    bool // its client runs no more
	// client is its address where this host knows it, or empty: then it is the one
	// watcher of the image.
	client ceph.Address
}

// kernelMapper is there where the kernel can map images.
const kernelMapper = "/sys/bus/rbd"

// newMapper is the one that c asks for. A pool whose images rbd-fuse serves, and none of which the kernel does, goes
// on with it, unless c says otherwise: what is mapped by another is not found.
func newMapper(c Config, dir string, log *slog.Logger) (mapper, error) {
	_, err := os.Stat(kernelMapper)
	kernel := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	switch {
	case c.Mapper == "krbd" && !kernel:
		return nil, fmt.Errorf("mapper: this kernel has no krbd: load its module, modprobe rbd, or use mapper: fuse")
	case c.Mapper == "" && kernel && len(c.Cluster.Monitors) > 0:
		k := newKrbd(c, log)
		running, err := client.Below(dir)
		if err != nil || len(running) == 0 {
			return k, err
		}
		if mapped, err := k.all(); err != nil || len(mapped) > 0 {
			log.Warn("an rbd-fuse runs that no volume of the pool is found by, for others are mapped by the kernel: end it once nothing uses it", "dir", dir)
			return k, err
		}
	case c.Mapper == "krbd":
		return newKrbd(c, log), nil
	}
	return &fuseMapper{config: c, dir: dir, log: log}, nil
}
