//go:build ceph && cgo

package rbd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/ceph/go-ceph/rados"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
	"github.com/dvol/dvold/internal/hang"
	"github.com/dvol/dvold/internal/upkeep"
)

// Pool is a pool of the cluster, or a namespace of one, that images are kept in.
type Pool struct {
	config  Config
	name    string
	dir     string // of what mappings need
	log     *slog.Logger
	cluster *ceph.Cluster
	fencer  *ceph.Cluster // cluster itself, unless it has a user of its own
	mapper  mapper
	turns   turns      // of calls, and of who sees to images
	hanging hang.Calls // by what is done to what
	seen    seen

	upkeep *upkeep.Tender
}

var (
	_ backends.Backend    = (*Pool)(nil)
	_ backends.Stamper    = (*Pool)(nil)
	_ backends.Resizer    = (*Pool)(nil)
	_ backends.Networked  = (*Pool)(nil)
	_ backends.Fencer     = (*Pool)(nil)
	_ backends.Connecting = (*Pool)(nil)
)

// tendInterval is how soon a mapping that is left over is taken away, and a file
// system fills an image that was made larger. endTime is how long what ends may take.
const (
	tendInterval = 5 * time.Second
	endTime      = 5 * time.Second
)

// Open returns the pool of that name that c describes. Below runDir, which is lost in
// a reboot, lies what its mappings need. It leaves the cluster alone, which may hang:
// later calls tell whether it is available. From then on until Close, mappings are seen
// to, also those of an earlier dvold. Of these, a client of rbd-fuse that was fenced before this dvold got
// to know it is left to the guard.
func Open(c Config, name, runDir string, log *slog.Logger) (*Pool, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	dir, err := ownDir(filepath.Join(runDir, "rbd", name))
	if err != nil {
		return nil, err
	}
	p := &Pool{config: c, name: name, dir: dir, log: log, seen: newSeen()}
	if p.mapper, err = newMapper(c, dir, log); err != nil {
		return nil, err
	}
	if p.cluster, err = ceph.Open(c.Cluster, log); err != nil {
		return nil, err
	}
	p.fencer = p.cluster
	if c.Fencer != "" {
		if p.fencer, err = ceph.Open(c.fencer(), log); err != nil {
			return nil, err
		}
	}
	p.upkeep = upkeep.New(log)
	p.upkeep.Go(p.findMapped)
	upkeep.Each(p.upkeep, tendInterval, p.seen.all, p.tend)
	return p, nil
}

// ownDir returns the directory of the pool's mountpoints, which is the one in dir, and
// called as no other on this machine is: loop devices and processes are known by paths in it,
// and other hosts may share the kernel, with the same paths in mount namespaces of their
// own.
func ownDir(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	dir, err := filepath.EvalSymlinks(dir) // as mount tables do
	if err != nil {
		return "", err
	}
	there, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	if len(there) == 0 {
		own := filepath.Join(dir, rand.Text())
		return own, os.Mkdir(own, 0o700)
	}
	return filepath.Join(dir, there[0].Name()), nil
}

// Close ends what Open began, and leaves mappings and volumes as they are. It does not
// wait long for storage that hangs.
func (p *Pool) Close() error {
	p.upkeep.Close()
	err := p.cluster.Close()
	if p.fencer != p.cluster {
		err = errors.Join(err, p.fencer.Close())
	}
	return err
}

// with calls f with the pool of the cluster, as [ceph.Cluster.Call] does.
func (p *Pool) with(ctx context.Context, f func(*rados.IOContext) error) error {
	return p.cluster.Call(ctx, func(conn *rados.Conn) error { return p.within(conn, f) })
}

// value is with for what has a result.
func value[T any](ctx context.Context, p *Pool, f func(*rados.IOContext) (T, error)) (T, error) {
	return ceph.Value(ctx, p.cluster, func(conn *rados.Conn) (v T, err error) {
		err = p.within(conn, func(pool *rados.IOContext) (err error) {
			v, err = f(pool)
			return err
		})
		return v, err
	})
}

func (p *Pool) within(conn *rados.Conn, f func(*rados.IOContext) error) error {
	pool, err := conn.OpenIOContext(p.config.Pool)
	if isNotFound(err) {
		return fmt.Errorf("the cluster has no pool %q (pool): %w", p.config.Pool, backends.ErrUnavailable)
	}
	if err != nil {
		return err
	}
	defer pool.Destroy()
	pool.SetNamespace(p.config.Namespace)
	// A pool that is full says so, and lets what is there be changed and removed; otherwise
	// what is asked of it would wait for room until it is given up.
	if err := pool.SetPoolFullTry(); err != nil {
		return err
	}
	return f(pool)
}
