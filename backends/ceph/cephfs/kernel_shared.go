package cephfs

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/sys/mountinfo"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/fuseclient"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/upkeep"
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

	turn upkeep.Turn // of who mounts or unmounts it
	uses *upkeep.Uses

	mu      sync.Mutex                    // guards the fields below
	leaving bool                          // it is being unmounted
	earlier map[string]*fuseclient.Health // of what was mounted by other configurations, by mountpoint
}

func newKernelShared(p *Pool) *kernelShared {
	return &kernelShared{
		pool: p, point: filepath.Join(p.dir, kernelPrefix+p.config.fingerprint()), log: p.log,
		health: fuseclient.NewHealth(p.spec("").client(), p.log), turn: upkeep.NewTurn(), uses: upkeep.NewUses(),
		earlier: make(map[string]*fuseclient.Health),
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
	leave = s.uses.Enter()
	s.mu.Lock()
	leaving := s.leaving
	s.mu.Unlock()
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
	done, err := s.turn.Take(ctx)
	if err != nil {
		return fmt.Errorf("%s is not mounted yet: %w: %w", s.pool.spec("").name(), backends.ErrUnavailable, err)
	}
	defer done()
	if mounted, err := host.IsMountpoint(s.point); err == nil && mounted {
		return nil
	}
	if err := s.pool.mountKernel(ctx, "", s.point, false); err != nil {
		return err
	}
	s.log.Info("the kernel has mounted the pool", "mountpoint", s.point)
	return nil
}

// points are the mountpoints of shared mounts, also of other configurations.
func (s *kernelShared) points() (points []string) {
	entries, err := os.ReadDir(s.pool.dir)
	if err != nil {
		s.log.Warn("mounts were not seen to", "err", err)
	}
	for _, e := range entries {
		if point := filepath.Join(s.pool.dir, e.Name()); s.pool.isShared(point) {
			points = append(points, point)
		}
	}
	return points
}

// tend sees to a shared mount, and tells the log if it can't.
func (s *kernelShared) tend(ctx context.Context, point string) {
	see := s.see
	if point != s.point {
		see = s.seeEarlier
	}
	if err := see(ctx, point); err != nil && ctx.Err() == nil {
		s.log.Warn("mount was not seen to", "mountpoint", point, "err", err)
	}
}

// see asks whether the storage answers, and takes the mount away if nothing has been mounted
// of it for as long as the grace, and its MDS answer: it would hang otherwise.
func (s *kernelShared) see(ctx context.Context, point string) error {
	m, err := mountedByKernel(point)
	if err != nil || m == nil {
		return err
	}
	s.health.Watch(kernelClient(point))
	if s.health.Silent() > 0 || !s.uses.Idle(s.pool.config.ClientGrace) {
		return nil
	}
	used, err := s.pool.isUsed(m)
	if err != nil {
		return err
	}
	if used {
		s.uses.Seen()
		return nil
	}
	if s.health.Ask(ctx, kernelClient(point), time.Second) != nil {
		return nil // it is silent, which it is told of
	}
	done, err := s.turn.Take(ctx)
	if err != nil {
		return err
	}
	defer done()
	if !s.leave() {
		return nil
	}
	defer s.left()
	return s.takeAway(point)
}

// seeEarlier takes what another configuration has mounted away, which nobody enters any more,
// once nothing is mounted of it and its MDS answer.
func (s *kernelShared) seeEarlier(ctx context.Context, point string) error {
	m, err := mountedByKernel(point)
	if err != nil || m == nil {
		return err
	}
	if used, err := s.pool.isUsed(m); err != nil || used {
		return err
	}
	s.mu.Lock()
	health := s.earlier[point]
	if health == nil {
		health = fuseclient.NewHealth(s.pool.spec("").client(), s.log)
		s.earlier[point] = health
	}
	s.mu.Unlock()
	if health.Ask(ctx, kernelClient(point), time.Second) != nil {
		return nil
	}
	return s.takeAway(point)
}

func (s *kernelShared) takeAway(point string) error {
	if err := host.Unmount(point); err != nil {
		return err
	}
	if err := host.RemoveMountpoint(point); err != nil {
		return err
	}
	s.log.Info("the pool was unmounted, for nothing is mounted of it", "mountpoint", point)
	return nil
}

// mountedByKernel is what the kernel's client has mounted at point, or nil.
func mountedByKernel(point string) (*mountinfo.Info, error) {
	m, err := host.MountedAt(point)
	if err != nil || m == nil || m.FSType != kernelType {
		return nil, err
	}
	return m, nil
}

// isUsed tells whether something is mounted of a shared mount.
func (p *Pool) isUsed(m *mountinfo.Info) (bool, error) {
	mounts, err := host.MountsOf(m)
	return slices.ContainsFunc(mounts, func(other *mountinfo.Info) bool { return !p.isShared(other.Mountpoint) }), err
}

// isShared tells whether a mountpoint is that of a shared mount: those of two configurations
// may have one file system, and neither is mounted of the other.
func (p *Pool) isShared(mountpoint string) bool {
	return filepath.Dir(mountpoint) == p.dir && strings.HasPrefix(filepath.Base(mountpoint), kernelPrefix)
}

// leave has whoever enters from now on wait for its turn, unless the mount is in use
// again.
func (s *kernelShared) leave() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uses.IfIdle(s.pool.config.ClientGrace, func() { s.leaving = true })
}

func (s *kernelShared) left() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = false
}
