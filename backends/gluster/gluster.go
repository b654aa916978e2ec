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
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
)

// Pool is a Gluster volume, or a directory of one, that volumes are kept in.
type Pool struct {
	config Config
	name   string
	dir    string // of the clients' mountpoints
	log    *slog.Logger
	manage management

	takesOrders sync.Map // IDs of Gluster volumes whose options management can change
	recent      sync.Map // what glusterd said of a Gluster volume, by its name

	tending sync.WaitGroup
	end     context.CancelFunc

	mu      sync.Mutex // guards the field below
	clients map[string]*shared
}

var (
	_ backends.Backend   = (*Pool)(nil)
	_ backends.Stamper   = (*Pool)(nil)
	_ backends.Networked = (*Pool)(nil)
)

// tendInterval is how soon a client that has ended is replaced.
const tendInterval = time.Second

// Open returns the pool of that name that c describes. Below runDir, which is
// lost in a reboot, lie the mountpoints of its clients. It leaves the storage
// alone, which may hang: later calls tell whether it is available. From then on
// until Close clients are seen to, also those of an earlier dvold.
func Open(c Config, name, runDir string, log *slog.Logger) (*Pool, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Subdir = strings.TrimPrefix(c.Subdir, "/")
	dir := filepath.Join(runDir, "gluster", name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	dir, err := filepath.EvalSymlinks(dir) // as mount tables do
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(context.Background())
	p := &Pool{config: c, name: name, dir: dir, log: log, end: end, clients: make(map[string]*shared)}
	p.manage = management{c.Management, c.ManagementTimeout}
	p.sharedOf(c.Volume)
	if err := p.findOthers(); err != nil {
		end()
		return nil, err
	}
	p.tending.Go(func() { p.tend(ctx) })
	return p, nil
}

// Close ends what Open began, and leaves clients and volumes as they are. It does
// not wait long for storage that hangs.
func (p *Pool) Close() error {
	p.end()
	ended := make(chan struct{})
	go func() {
		p.tending.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(endTime):
		p.log.Warn("a client of the pool is still being seen to: its storage hangs")
	}
	return nil
}

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
func (p *Pool) sharedOf(volume string) *shared {
	p.mu.Lock()
	defer p.mu.Unlock()
	key, subdir := wholeKey+volume, ""
	if volume == p.config.Volume {
		key, subdir = sharedKey, p.config.Subdir
	}
	s := p.clients[key]
	if s == nil {
		spec := p.specOf(volume, subdir)
		if !p.config.Caching {
			spec.options = append(spec.options, coherentOptions[:]...)
		}
		s = newShared(spec, p.dir, key, p.config.MountTimeout, p.log)
		p.clients[key] = s
	}
	return s
}

// specOf says what a client of the Gluster volume is started with.
func (p *Pool) specOf(volume, subdir string) spec {
	options := []string{"--log-level=" + p.config.LogLevel}
	if p.config.Transport != "" {
		options = append(options, "--volfile-server-transport="+p.config.Transport)
	}
	if p.config.TLS {
		options = append(options, "--secure-mgmt=on")
	}
	return spec{
		servers: p.config.Servers, volume: volume, subdir: subdir, tls: p.config.TLS, options: options,
		log: filepath.Join(p.config.LogDir, fmt.Sprintf("dvol-%s-%s.log", p.name, volume)),
	}
}

// findOthers makes known the clients of whole Gluster volumes that an earlier
// dvold has left.
func (p *Pool) findOthers() error {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), wholeKey)
		if at := strings.LastIndexByte(name, '.'); ok && at > 0 {
			p.sharedOf(name[:at])
		}
	}
	return nil
}

// tend sees to all shared clients from time to time, each by itself: one may
// hang.
func (p *Pool) tend(ctx context.Context) {
	var running sync.Map
	tick := time.NewTicker(tendInterval)
	defer tick.Stop()
	for {
		p.mu.Lock()
		for key, s := range p.clients {
			if _, busy := running.LoadOrStore(key, nil); busy {
				continue
			}
			p.tending.Go(func() {
				defer running.Delete(key)
				if err := s.tend(ctx, p.config.ClientGrace); err != nil && ctx.Err() == nil {
					p.log.Warn("client of a Gluster volume was not seen to", "gluster_volume", s.volume, "err", err)
				}
			})
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// with calls f with what keeps volumes in the pool's Gluster volume.
func (p *Pool) with(ctx context.Context, f func(*local.Pool) error) error {
	root, leave, err := p.sharedOf(p.config.Volume).enter(ctx)
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
