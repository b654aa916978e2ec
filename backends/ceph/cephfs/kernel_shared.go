package cephfs

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/fuseclient"
	"github.com/dvol/dvold/internal/host"
)

// kernelPrefix begins the name of the mountpoint of the shared mount, which ends with the
// fingerprint of the configuration: what was mounted by another one serves what is bound
// out of it, and nothing new.
const kernelPrefix = "kernel."

// kernelShared is the one mount on this host of the pool by the kernel's client, for all
// volumes in it that are not exclusive. It outlives dvold, and is found again in the mount
// table.
type kernelShared struct {
	pool   *Pool
	point  string
	log    *slog.Logger
	health *fuseclient.Health

	turn chan struct{} // held by who mounts or unmounts it

	mu      sync.Mutex // guards the fields below
	calls   int        // that use it at the moment
	used    time.Time  // when it was last seen in use
	leaving bool       // it is being unmounted
}

func newKernelShared(p *Pool) *kernelShared {
	return &kernelShared{
		pool: p, point: filepath.Join(p.dir, kernelPrefix+p.config.fingerprint()), log: p.log,
		health: fuseclient.NewHealth(p.spec("").client(), p.log), turn: make(chan struct{}, 1), used: time.Now(),
	}
}

// fingerprint is another for each configuration that is mounted differently.
func (c Config) fingerprint() string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%q %q %q %q", c.Cluster.Monitors, c.Cluster.User, c.FileSystem, c.Subdir)
	return fmt.Sprintf("%08x", h.Sum32())
}

// enter has the pool mounted, and its MDS give a word. It stays mounted until leave is
// called.
func (s *kernelShared) enter(ctx context.Context) (root string, leave func(), err error) {
	s.mu.Lock()
	s.calls++
	leaving := s.leaving
	s.mu.Unlock()
	leave = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.calls--
		s.used = time.Now()
	}
	mounted, err := host.IsMountpoint(s.point)
	if err == nil && (!mounted || leaving) {
		err = s.bringUp(ctx)
	}
	if err == nil {
		err = s.health.Ask(ctx, kernelClient(s.point), s.pool.config.MountTimeout)
	}
	if err != nil {
		leave()
		return "", nil, err
	}
	return s.point, leave, nil
}

// bringUp mounts the pool, unless it is mounted. It may be called concurrently.
func (s *kernelShared) bringUp(ctx context.Context) error {
	wait := s.pool.config.MountTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("no answer for %v (mount_timeout)", wait))
	defer cancel()
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return fmt.Errorf("%s is not mounted yet: %w: %w", s.pool.spec("").name(), backends.ErrUnavailable, context.Cause(ctx))
	}
	if mounted, err := host.IsMountpoint(s.point); err == nil && mounted {
		return nil
	}
	if err := s.pool.mountKernel(ctx, "", s.point, false); err != nil {
		return err
	}
	s.log.Info("the kernel has mounted the pool", "mountpoint", s.point)
	return nil
}

// tend asks whether the storage answers, and takes mounts away that nobody uses.
func (s *kernelShared) tend(ctx context.Context) {
	tick := time.NewTicker(fuseclient.TendInterval)
	defer tick.Stop()
	for {
		points, _ := filepath.Glob(filepath.Join(s.pool.dir, kernelPrefix+"*")) // its only error is a pattern's
		for _, point := range points {
			if err := s.see(ctx, point); err != nil && ctx.Err() == nil {
				s.log.Warn("mount was not seen to", "mountpoint", point, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// see sees to a shared mount, also of another configuration. It is taken away if nothing
// has been mounted of it for as long as the grace, and its MDS answer: it would hang
// otherwise.
func (s *kernelShared) see(ctx context.Context, point string) error {
	m, err := host.MountedAt(point)
	if err != nil || m == nil || m.FSType != kernelType {
		return err
	}
	if point == s.point {
		s.health.Watch(kernelClient(point))
		if s.health.Silent() > 0 || !s.idle() {
			return nil
		}
	}
	mounts, err := host.MountsOf(m)
	if err != nil {
		return err
	}
	for _, other := range mounts {
		if !s.pool.isShared(other.Mountpoint) {
			s.mu.Lock()
			s.used = time.Now()
			s.mu.Unlock()
			return nil
		}
	}
	if point == s.point {
		if err := s.health.Ask(ctx, kernelClient(point), time.Second); err != nil {
			return nil // it is silent, which it is told of
		}
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if !s.leave() {
		return nil
	}
	defer s.left()
	if err := unmountDir(point); err != nil {
		return err
	}
	s.log.Info("the pool was unmounted, for nothing is mounted of it", "mountpoint", point)
	return nil
}

// isShared tells whether a mountpoint is that of a shared mount: those of two configurations
// may have one file system, and neither is mounted of the other.
func (p *Pool) isShared(mountpoint string) bool {
	return filepath.Dir(mountpoint) == p.dir && strings.HasPrefix(filepath.Base(mountpoint), kernelPrefix)
}

// idle tells whether the grace is over.
func (s *kernelShared) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls == 0 && time.Since(s.used) >= s.pool.config.ClientGrace
}

// leave has whoever enters from now on wait for its turn, unless the mount is in use
// again.
func (s *kernelShared) leave() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = s.calls == 0 && time.Since(s.used) >= s.pool.config.ClientGrace
	return s.leaving
}

func (s *kernelShared) left() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = false
}
