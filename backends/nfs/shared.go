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
	"time"

	"github.com/moby/sys/mountinfo"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
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

	turn chan struct{} // held by who mounts or unmounts it

	mu     sync.Mutex // guards the fields below
	server netip.Addr // that it is mounted from; not valid if it is not known to be mounted
	calls  int        // that use it at the moment
	used   time.Time  // when it was last seen in use
	stale  bool       // the server knows what is mounted no more
	silent bool       // the server gave no word when it was asked last
}

func newShared(p *Pool, point string) *shared {
	return &shared{pool: p, point: point, turn: make(chan struct{}, 1), used: time.Now()}
}

// enter has the pool mounted, and its server give a word. It stays mounted until
// leave is called.
func (s *shared) enter(ctx context.Context) (leave func(), err error) {
	s.mu.Lock()
	s.calls++
	server := s.server
	s.mu.Unlock()
	leave = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.calls--
		s.used = time.Now()
	}
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
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return netip.Addr{}, fmt.Errorf("%s is not mounted yet: %w: %w", s.pool.config.source(), backends.ErrUnavailable, context.Cause(ctx))
	}
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

// tend takes mounts away that nobody uses, each by itself: one may hang.
func (p *Pool) tend(ctx context.Context) {
	var running sync.Map
	tick := time.NewTicker(tendInterval)
	defer tick.Stop()
	for {
		points, err := p.points()
		if err != nil {
			p.log.Warn("mounts were not seen to", "err", err)
		}
		for _, point := range points {
			if _, busy := running.LoadOrStore(point, nil); busy {
				continue
			}
			p.tending.Go(func() {
				defer running.Delete(point)
				if err := p.shared.reap(ctx, point); err != nil && ctx.Err() == nil {
					p.log.Warn("mount was not seen to", "mountpoint", point, "err", err)
				}
			})
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// points are the mountpoints of shared mounts, also of other configurations.
func (p *Pool) points() ([]string, error) {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, err
	}
	var points []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), sharedPrefix) {
			points = append(points, filepath.Join(p.dir, e.Name()))
		}
	}
	return points, nil
}

// reap takes a shared mount away if nothing is mounted of it, nor has been for as long
// as the grace, which one that serves no more has not, and its server answers: it would
// hang otherwise. One whose server is silent goes if another has taken its place.
func (s *shared) reap(ctx context.Context, point string) error {
	if !s.idle() {
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
			s.mu.Lock()
			s.used = time.Now()
			s.mu.Unlock()
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
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if point == s.point && !s.forget() {
		return nil
	}
	if silent {
		err = s.pool.detach(ctx, point)
	} else {
		err = remove(point)
	}
	if err != nil {
		return err
	}
	s.pool.log.Info("export was unmounted, for nothing is mounted of it", "mountpoint", point)
	return nil
}

// idle tells whether it may go, if nothing is mounted of it.
func (s *shared) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isIdle()
}

// hasMoved tells whether the name of the pool's server stands for another, by now, that
// answers.
func (s *shared) hasMoved(ctx context.Context, from netip.Addr) bool {
	w, err := s.pool.config.find(ctx)
	return err == nil && w.server != from
}

// isIdle is idle for who holds mu. Calls to what serves no more, which fail, don't prolong
// its use; those to a silent server may take for ever.
func (s *shared) isIdle() bool {
	return s.silent || s.calls == 0 && (s.stale || time.Since(s.used) >= s.pool.config.MountGrace)
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
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isIdle() {
		return false
	}
	s.server, s.stale, s.silent = netip.Addr{}, false, false
	return true
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
