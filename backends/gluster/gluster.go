// Package gluster keeps volumes as directories of a GlusterFS volume.
//
// In a Gluster volume, or the directory of it that is the pool, lies what
// package local says; this package sees to it that there is a file system for
// that. All volumes of a host are bound out of the file system of one client,
// but for those that are exclusive: they have a client of their own each, which
// can be ended with them.
//
// Clients are glusterfs processes (glusterfs(8)). They outlive dvold, and are
// found again by the mountpoint that each was started for. One that has ended is
// replaced, and what it served is served by the next, in running containers
// too.
package gluster

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/internal/fuseclient"
)

// Pool is a Gluster volume, or a directory of one, that volumes are kept in.
type Pool struct {
	config Config
	name   string
	log    *slog.Logger
	manage management
	others map[string]Config // pools on the same servers, by name

	takesOrders sync.Map // IDs of Gluster volumes whose options management can change
	recent      sync.Map // what glusterd said of a Gluster volume, by its name

	clients *fuseclient.Clients
}

var (
	_ backends.Backend   = (*Pool)(nil)
	_ backends.Stamper   = (*Pool)(nil)
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
	c.Subdir = strings.TrimPrefix(c.Subdir, "/")
	clients, err := fuseclient.Open(fuseclient.Config{
		Kind: kind(), Dir: filepath.Join(runDir, "gluster", name), Wait: c.MountTimeout, Grace: c.ClientGrace,
	}, log)
	if err != nil {
		return nil, err
	}
	p := &Pool{config: c, name: name, log: log, clients: clients}
	p.manage = management{c.Management, c.ManagementTimeout}
	p.sharedOf(c.Volume)
	if err := p.findOthers(); err != nil {
		return nil, err
	}
	clients.Tend()
	return p, nil
}

// Close ends what Open began, and leaves clients and volumes as they are. It does
// not wait long for storage that hangs.
func (p *Pool) Close() error {
	p.clients.Close()
	return nil
}

// Silent is for how long the storage behind one of the pool's shared clients does
// not answer.
func (p *Pool) Silent() time.Duration { return p.clients.Silent() }

// sharedKey and wholeKey begin the names of the mountpoints of shared clients.
const (
	sharedKey = "shared"
	wholeKey  = "whole-"
)

// coherentOptions are those of a client of volumes that other hosts may write to
// at the same time: what one has closed the others read, as with close-to-open
// consistency of NFS. By default a client believes for a second what it knows, so
// that most reads right after another host's close were stale (37 of 40), and a
// counter under a lock lost some counts.
var coherentOptions = [...]string{
	"--attribute-timeout=0", "--entry-timeout=0",
	"--xlator-option=*md-cache.md-cache-timeout=0", "--xlator-option=*quick-read.cache-timeout=0",
	flushOnClose,
}

// sharedOf returns the client of a Gluster volume, which may have to be started.
func (p *Pool) sharedOf(volume string) *fuseclient.Shared {
	key, subdir := wholeKey+volume, ""
	if volume == p.config.Volume {
		key, subdir = sharedKey, p.config.Subdir
	}
	return p.clients.Shared(key, func() fuseclient.Spec {
		s := p.specOf(volume, subdir)
		if !p.config.Caching {
			s.options = append(s.options, coherentOptions[:]...)
		}
		c := s.client()
		if key == sharedKey { // any other key says it itself
			c.Shows = s.shows()
		}
		return c
	})
}

// findOthers makes known the clients of whole Gluster volumes that an earlier
// dvold has left.
func (p *Pool) findOthers() error {
	keys, err := p.clients.Keys()
	for _, key := range keys {
		if volume, ok := strings.CutPrefix(key, wholeKey); ok {
			p.sharedOf(volume)
		}
	}
	return err
}

// with calls f with what keeps volumes in the pool's Gluster volume.
func (p *Pool) with(ctx context.Context, f func(*local.Pool) error) error {
	root, leave, err := p.sharedOf(p.config.Volume).Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	d, err := p.at(root)
	if err != nil {
		return err
	}
	return f(d)
}

// at is what keeps volumes below root, which is where a client has mounted the
// pool.
func (p *Pool) at(root string) (*local.Pool, error) {
	return local.OpenLimited(local.Config{Path: root, RequireMount: true, Shared: true}, p.limiter(), p.log)
}

// locate tells an operator where something lies.
func (p *Pool) locate(path string) string { return strings.Join(p.config.Servers, ",") + ":" + path }
