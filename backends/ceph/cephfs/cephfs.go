// Package cephfs keeps volumes as directories of a CephFS, or as its sub-volumes.
//
// In the file system, or the directory of it that is the pool, lies what package
// local says, or, in a group of sub-volumes, what type subvolumes says; this package
// sees to it that there is a file system for that. All
// volumes of a host are bound out of the file system of one client, but for those
// that are exclusive: they have a client of their own each, which can be ended with
// them, and which the cluster knows by an address of its own.
//
// Clients are the kernel's, or ceph-fuse(8), which package fuseclient starts, and finds
// again. What the kernel has mounted is found again in the mount table.
package cephfs

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/internal/fuseclient"
	"github.com/dvol/dvold/internal/upkeep"
)

// Pool is a CephFS, or a directory of one, that volumes are kept in.
type Pool struct {
	config  Config
	name    string
	dir     string // of the clients' mountpoints, and of what they are asked by
	log     *slog.Logger
	clients *fuseclient.Clients
	kernel  *kernelShared
	manager *manager                    // nil but for sub-volumes
	mounts  *upkeep.Attempts            // the kernel's, by mountpoint
	upkeep  *upkeep.Tender              // of the kernel's mounts
	fencing atomic.Pointer[FencingPool] // nil without a Fencer
}

var (
	_ backends.Backend   = (*Pool)(nil)
	_ backends.Stamper   = (*Pool)(nil)
	_ backends.Resizer   = (*Pool)(nil)
	_ backends.Networked = (*Pool)(nil)
	_ backends.Watched   = (*Pool)(nil)
)

// Open returns the pool of that name that c describes. Below runDir, which is
// lost in a reboot, lie the mountpoints of its clients. It leaves the storage
// alone, which may hang: later calls tell whether it is available. From then on
// until Close clients are seen to, also those of an earlier dvold.
func Open(c Config, name, runDir string, log *slog.Logger) (*Pool, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Subdir = c.dir()
	var m *manager
	if c.SubvolumeGroup != "" {
		var err error
		if m, err = openManager(c, log); err != nil {
			return nil, err
		}
	}
	clients, err := fuseclient.Open(fuseclient.Config{Kind: kind(), Dir: filepath.Join(runDir, "cephfs", name), Wait: c.MountTimeout, Grace: c.ClientGrace}, log)
	if err != nil {
		return nil, err
	}
	p := &Pool{config: c, name: name, dir: clients.Dir(), log: log, clients: clients, manager: m, mounts: upkeep.NewAttempts(), upkeep: upkeep.New(log)}
	p.shared()
	clients.Tend()
	p.kernel = newKernelShared(p)
	upkeep.Each(p.upkeep, fuseclient.TendInterval, p.kernel.points, p.kernel.tend)
	return p, nil
}

// Close ends what Open began, and leaves clients and volumes as they are. It does
// not wait long for storage that hangs.
func (p *Pool) Close() error {
	p.upkeep.Close()
	p.clients.Close()
	if p.manager != nil {
		return p.manager.close()
	}
	return nil
}

// Silent is for how long the storage does not answer the shared client.
func (p *Pool) Silent() time.Duration { return max(p.clients.Silent(), p.kernel.health.Silent()) }

// sharedKey begins the names of the mountpoints of the shared client.
const sharedKey = "shared"

// shared returns the shared client, which may have to be started.
func (p *Pool) shared() *fuseclient.Shared {
	return p.clients.Shared(sharedKey, func() fuseclient.Spec {
		s := p.spec(sharedKey)
		s.socket = p.sharedSocket("$pid") // as Ceph's programs say it
		c := s.client()
		c.Shows, c.Bury, c.CutOff = s.shows(), p.bury, p.cutOff
		return c
	})
}

// bury has the file system's MDS end the session of a client that has ended, so that
// what it had in use does not wait until they find out: session_timeout, a minute. That
// takes a Fencer.
func (p *Pool) bury(ctx context.Context, mountpoint string) error {
	p.removeSockets()
	if f := p.fencing.Load(); f != nil {
		return f.evict(ctx, mountpoint)
	}
	return nil
}

// keeper keeps volumes below where a client has mounted the pool.
type keeper interface {
	backends.Backend
	backends.Stamper
	backends.Resizer
}

// with calls f with what keeps volumes in the pool.
func (p *Pool) with(ctx context.Context, f func(keeper) error) error {
	enter := p.shared().Enter
	kernel, err := p.usesKernel(false)
	if err != nil {
		return err
	}
	if kernel {
		enter = p.kernel.enter
	}
	root, leave, err := enter(ctx)
	if err != nil {
		p.removeSockets() // of one that did not come up
		return err
	}
	defer leave()
	d, err := p.at(root)
	if err == nil && p.config.SubvolumeGroup != "" {
		err = makeRecords(root)
	}
	if err != nil {
		return err
	}
	return f(d)
}

// at is what keeps volumes below root, which is where a client has mounted the
// pool.
func (p *Pool) at(root string) (keeper, error) {
	d, err := local.OpenLimited(local.Config{Path: root, RequireMount: true, Shared: true}, quota{p.config.Cluster.User}, p.log)
	if err != nil || p.config.SubvolumeGroup == "" {
		return d, err
	}
	records, err := local.Open(local.Config{Path: filepath.Join(root, recordsDir), Shared: true}, p.log)
	return &subvolumes{Pool: records, group: d, name: p.config.SubvolumeGroup, path: p.pathOf(""), root: root, manager: p.manager}, err
}
