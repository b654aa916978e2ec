package fuseclient

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/upkeep"
)

// Shared is the one client on this host of a file system, for all volumes in
// it that are not exclusive: they are directories of it, bound to where they are
// wanted.
//
// Each client that is started has a mountpoint of its own, dir/key.number, by
// which it is found again; the first half of the number stands for what it shows.
// Nothing is written down: what runs and is mounted says it all.
type Shared struct {
	spec Spec
	dir  string
	key  string
	wait time.Duration // for a client to answer
	log  *slog.Logger

	health *Health

	turn upkeep.Turn // of who looks for, starts, heals or stops the client
	uses *upkeep.Uses

	mu     sync.Mutex      // guards the fields below
	now    *Client         // nil if none is known
	serves map[string]bool // whether the client of a mountpoint shows what it should
}

func newShared(spec Spec, dir, key string, wait time.Duration, log *slog.Logger) *Shared {
	log = log.With("file_system", spec.Name)
	return &Shared{
		spec: spec, dir: dir, key: key, wait: wait, log: log,
		health: NewHealth(spec, log), turn: upkeep.NewTurn(), uses: upkeep.NewUses(),
		serves: make(map[string]bool),
	}
}

// Enter returns where the client has the file system mounted, after it was
// started if need be, and its servers have just answered. It stays there until
// leave is called. Enter may be called concurrently, and returns ErrUnavailable when
// it has waited for as long as a client may take.
func (s *Shared) Enter(ctx context.Context) (mountpoint string, leave func(), err error) {
	leave = s.uses.Enter()
	s.mu.Lock()
	now := s.now
	s.mu.Unlock()
	if now != nil {
		err = s.health.await(ctx, now, s.wait)
	}
	if now == nil || !now.healthy() {
		now, err = s.bringUp(ctx)
	}
	if err != nil {
		leave()
		return "", nil, err
	}
	return now.Mountpoint, leave, nil
}

// bringUp finds or starts the client, and has the volumes that a dead one served
// served again. It may be called concurrently.
func (s *Shared) bringUp(ctx context.Context) (*Client, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.wait, fmt.Errorf("no answer for %v (mount_timeout)", s.wait))
	defer cancel()
	done, err := s.turn.Take(ctx)
	if err != nil {
		return nil, fmt.Errorf("the client of %s is not up yet: %w: %w", s.spec.Name, backends.ErrUnavailable, err)
	}
	defer done()
	now, dead, err := s.look()
	if err != nil {
		return nil, err
	}
	if now == nil {
		for _, point := range dead {
			s.spec.bury(ctx, point, s.log)
		}
		if now, err = s.startNew(ctx); err != nil {
			return nil, err
		}
	}
	for _, point := range dead {
		if err := s.heal(ctx, point, now); err != nil {
			s.log.Error("volumes of a client that has ended are not served again", "mountpoint", point, "err", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = now
	return now, nil
}

func (s *Shared) startNew(ctx context.Context) (*Client, error) {
	begin := time.Now()
	c, err := s.spec.start(ctx, filepath.Join(s.dir, fmt.Sprintf("%s.%s%04x", s.key, s.spec.fingerprint(), rand.N(1<<16))))
	if err != nil {
		return nil, err
	}
	if err := c.hold(); err != nil {
		return nil, errors.Join(err, c.end(ctx, s.spec.EndTime))
	}
	s.mu.Lock()
	s.serves[c.Mountpoint] = true
	s.mu.Unlock()
	s.log.Info("client started", "process", c.PID, "mountpoint", c.Mountpoint, "took", time.Since(begin).Round(time.Millisecond))
	return c, nil
}

// look finds the client that runs, and the mountpoints of those that have ended.
// Mountpoints that nobody has any more are removed.
func (s *Shared) look() (now *Client, dead []string, err error) {
	points, err := s.points()
	if err != nil || len(points) == 0 {
		return nil, nil, err
	}
	running, err := s.spec.Below(s.dir)
	if err != nil {
		return nil, nil, err
	}
	for _, point := range points {
		mounted, err := host.IsMountpoint(point)
		if err != nil {
			return nil, nil, err
		}
		processes := running[filepath.Base(point)]
		if mounted && !s.isOurs(point, processes) {
			continue
		}
		switch {
		case mounted && len(processes) > 0:
			c, err := s.spec.found(processes[0], point)
			if err != nil {
				return nil, nil, err
			}
			if now == nil && c != nil {
				now = c
			}
		case mounted:
			dead = append(dead, point)
		case len(processes) == 0 && s.abandoned(point):
			if err := host.RemoveMountpoint(point); err != nil {
				return nil, nil, err
			}
		}
		// Else its file system serves what is still bound elsewhere, and goes with that.
	}
	return now, dead, nil
}

// abandoned tells whether whoever made a mountpoint has given up by now.
func (s *Shared) abandoned(point string) bool {
	info, err := os.Lstat(point)
	return err == nil && time.Since(info.ModTime()) > s.wait+killTime
}

// points are the mountpoints there are, but for those that are known to be of another
// configuration.
func (s *Shared) points() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var points []string
	for _, e := range entries {
		point := filepath.Join(s.dir, e.Name())
		if serves, known := s.serves[point]; keyOf(e) == s.key && (serves || !known) {
			points = append(points, point)
		}
	}
	return points, nil
}

// tend heals what a client that has ended has left, and stops one that nothing
// has been mounted of for as long as grace. It waits for no answer of the storage,
// unless there is something to heal.
func (s *Shared) tend(ctx context.Context, grace time.Duration) error {
	s.mu.Lock()
	now := s.now
	s.mu.Unlock()
	if now == nil || !now.healthy() {
		points, err := s.points()
		if err != nil || len(points) == 0 {
			s.health.forget()
			return err
		}
		now, dead, err := s.lookAlone()
		if err != nil || now == nil && len(dead) == 0 {
			return err
		}
		if _, err = s.bringUp(ctx); err != nil {
			s.health.failed()
		}
		return err
	}
	s.health.Watch(now)
	if s.health.isRefused(now) { // nothing that it still has can be written
		s.log.Warn("client is replaced, for its servers refuse it", "process", now.PID)
		return kill(now.Process)
	}
	if !s.uses.Idle(grace) || s.health.waiting() {
		return nil
	}
	bound, err := now.bound()
	if err != nil {
		return err
	}
	if len(bound) > 0 {
		s.uses.Seen()
		return nil
	}
	return s.stop(ctx, now, grace)
}

// lookAlone is look, unless somebody is at it, for what there is to be healed: what
// a client that has ended had mounted for nobody is taken away.
func (s *Shared) lookAlone() (now *Client, dead []string, err error) {
	done, free := s.turn.Try()
	if !free {
		return nil, nil, nil
	}
	defer done()
	now, points, err := s.look()
	if err != nil {
		return nil, nil, err
	}
	for _, point := range points {
		gone, err := s.clear(point)
		if err != nil {
			return nil, nil, err
		}
		if !gone {
			dead = append(dead, point)
		}
	}
	return now, dead, nil
}

// stop unmounts the client's file system, unless it is in use again. The client
// ends with that.
func (s *Shared) stop(ctx context.Context, c *Client, grace time.Duration) error {
	done, err := s.turn.Take(ctx)
	if err != nil {
		return err
	}
	defer done()
	if !s.forget(c, grace) {
		return nil
	}
	s.health.forget()
	err = c.end(ctx, s.spec.EndTime)
	if err == nil {
		s.log.Info("client ended, for nothing is mounted of it", "process", c.PID)
	}
	return err
}

// forget has whoever enters from now on wait for its turn, unless the client is in use
// again, or no more the one that is known.
func (s *Shared) forget(c *Client, grace time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now == c && s.uses.IfIdle(grace, func() { s.now = nil })
}
