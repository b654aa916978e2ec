package nfs

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/upkeep"
)

// sharedPrefix begins the name of the mountpoint of the shared mount, which ends
// with the fingerprint of the configuration: what was mounted by another one
// serves what is bound out of it, and nothing new.
const sharedPrefix = "shared."

// shared is the one mount on this host of the pool, for all volumes in it that
// are not exclusive: they are directories of it, bound to where they are wanted.
type shared struct {
	pool  *Pool
	point string

	turn upkeep.Turn // of who mounts or unmounts it
	uses *upkeep.Uses

	mu     sync.Mutex // guards the fields below
	server netip.Addr // that it is mounted from; not valid if it is not known to be mounted
	stale  bool       // the server knows what is mounted no more
	silent bool       // the server gave no word when it was asked last
}

func newShared(p *Pool, point string) *shared {
	return &shared{pool: p, point: point, turn: upkeep.NewTurn(), uses: upkeep.NewUses()}
}

// enter has the pool mounted, and its server give a word. It stays mounted until
// leave is called.
func (s *shared) enter(ctx context.Context) (leave func(), err error) {
	leave = s.uses.Enter()
	s.mu.Lock()
	server := s.server
	s.mu.Unlock()
	mounted := false
	if server.IsValid() {
		mounted, err = host.IsMountpoint(s.point)
	}
	if err == nil && !mounted {
		server, err = s.bringUp(ctx)
	}
	if err == nil {
		err = s.ask(ctx, s.point, server)
	}
	if err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// ask asks the server of the mount at point for a word, and notes whether it gave one.
func (s *shared) ask(ctx context.Context, point string, server netip.Addr) error {
	err := s.pool.config.ask(ctx, server)
	if point == s.point {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.silent = err != nil
	}
	return err
}

// bringUp finds or mounts the pool. It may be called concurrently.
func (s *shared) bringUp(ctx context.Context) (netip.Addr, error) {
	ctx, cancel := s.pool.limit(ctx)
	defer cancel()
	done, err := s.turn.Take(ctx)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%s is not mounted yet: %w: %w", s.pool.config.source(), backends.ErrUnavailable, err)
	}
	defer done()
	server, err := s.look()
	if err == nil && !server.IsValid() {
		if err = s.pool.mountPool(ctx, s.point, false); err == nil {
			server, err = s.look()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server = server
	return server, err
}

// look returns the server that the pool is mounted from, which is not valid if it
// is not mounted.
func (s *shared) look() (server netip.Addr, err error) {
	m, err := host.MountedAt(s.point)
	if err != nil || m == nil {
		return server, err
	}
	if !host.IsNFS(m) {
		return server, fmt.Errorf("something else is mounted at %s: %w", s.point, backends.ErrUnavailable)
	}
	return serverOf(m)
}

// tend takes a mount away that nobody uses, and tells the log if it can't.
func (p *Pool) tend(ctx context.Context, point string) {
	if err := p.shared.reap(ctx, point); err != nil && ctx.Err() == nil {
		p.log.Warn("mount was not seen to", "mountpoint", point, "err", err)
	}
}

// points are the mountpoints of shared mounts, also of other configurations.
func (p *Pool) points() (points []string) {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		p.log.Warn("mounts were not seen to", "err", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), sharedPrefix) {
			points = append(points, filepath.Join(p.dir, e.Name()))
		}
	}
	return points
}

// reap takes a shared mount away if nothing is mounted of it, nor has been for as long
// as the grace, which one that serves no more has not, and its server answers: it would
// hang otherwise. One whose server is silent goes if another has taken its place. One of an
// earlier configuration, that nobody enters any more, has no grace.
func (s *shared) reap(ctx context.Context, point string) error {
	if point == s.point && !s.ifIdle(func() {}) {
		return nil
	}
	m, err := host.MountedAt(point)
	if err != nil || m == nil {
		return err
	}
	bound, err := s.pool.bound(m)
	if err != nil {
		return err
	}
	if bound {
		if point == s.point {
			s.uses.Seen()
		}
		return nil
	}
	server, err := serverOf(m)
	if err != nil {
		return err
	}
	silent := s.ask(ctx, point, server) != nil
	if silent && (point != s.point || !s.hasMoved(ctx, server)) {
		return nil
	}
	done, err := s.turn.Take(ctx)
	if err != nil {
		return err
	}
	defer done()
	if point == s.point && !s.forget() {
		return nil
	}
	if silent {
		err = s.pool.detach(ctx, point)
	} else if err = host.Unmount(point); err == nil { // which may wait for the server
		err = host.RemoveMountpoint(point)
	}
	if err != nil {
		return err
	}
	s.pool.log.Info("export was unmounted, for nothing is mounted of it", "mountpoint", point)
	return nil
}

// hasMoved tells whether the name of the pool's server stands for another, by now, that
// answers.
func (s *shared) hasMoved(ctx context.Context, from netip.Addr) bool {
	w, err := s.pool.config.find(ctx)
	return err == nil && w.server != from
}

// ifIdle calls f if the mount may go, unless something is mounted of it, and tells whether it
// may. Calls to what serves no more, which fail, don't prolong its use; those to a silent
// server may take for ever.
func (s *shared) ifIdle(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent {
		f()
		return true
	}
	grace := s.pool.config.MountGrace
	if s.stale {
		grace = 0
	}
	return s.uses.IfIdle(grace, f)
}

// outdated notes that the server knows what is mounted no more.
func (s *shared) outdated() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale = true
}

// forget has whoever enters from now on wait for its turn, unless the mount is in
// use again.
func (s *shared) forget() bool {
	return s.ifIdle(func() { s.server, s.stale, s.silent = netip.Addr{}, false, false })
}

// bound tells whether something is mounted of a shared mount. Such mounts are none of each
// other's, though pools on one export have one file system.
func (p *Pool) bound(m *mountinfo.Info) (bool, error) {
	mounts, err := host.MountsOf(m)
	return slices.ContainsFunc(mounts, func(other *mountinfo.Info) bool {
		dir, name := filepath.Split(other.Mountpoint)
		return filepath.Dir(filepath.Clean(dir)) != filepath.Dir(p.dir) || !strings.HasPrefix(name, sharedPrefix)
	}), err
}
