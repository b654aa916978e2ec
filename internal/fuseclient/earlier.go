package fuseclient

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dvol/dvold/internal/host"
)

// earlierInterval is how often clients of other configurations are looked at.
const earlierInterval = 5 * time.Second

// fingerprint is another, as a rule, for each that clients show.
func (s Spec) fingerprint() string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%q", s.Shows)
	return fmt.Sprintf("%04x", h.Sum32()>>16)
}

// shownBy tells whether a client with such arguments shows what it should.
func (s Spec) shownBy(args []string) bool {
	return !slices.ContainsFunc(s.Shows, func(want string) bool {
		name, value, _ := strings.Cut(want, "=")
		i := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, name+"=") })
		return i < 0 && value != "" || i >= 0 && args[i] != want
	})
}

// isOurs tells whether a client shows what it should, by its arguments if it runs. Of one
// that has ended it is known from before, or by the name of its mountpoint: those that an earlier
// dvold has made say nothing, and are nobody's then.
func (s *Shared) isOurs(point string, running []host.Process) bool {
	if len(s.spec.Shows) == 0 { // the key says it all
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.serves[point]; !known && len(running) > 0 {
		if args, err := arguments(running[0].PID); err == nil && len(args) > 0 {
			s.serves[point] = s.spec.shownBy(args)
		}
	}
	if serves, known := s.serves[point]; known {
		return serves
	}
	return strings.HasPrefix(filepath.Base(point), s.key+"."+s.spec.fingerprint())
}

// tendEarlier sees to the shared clients of other configurations until ctx ends.
func (s *Clients) tendEarlier(ctx context.Context) {
	tick := time.NewTicker(earlierInterval)
	defer tick.Stop()
	told := make(map[string]bool) // of which the log says that they have ended
	for {
		if err := s.endEarlier(ctx, told); err != nil && ctx.Err() == nil {
			s.log.Warn("clients of another configuration were not seen to", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// endEarlier ends the shared clients of other configurations that serve nothing any more.
func (s *Clients) endEarlier(ctx context.Context, told map[string]bool) error {
	entries, err := os.ReadDir(s.config.Dir)
	if err != nil {
		return err
	}
	running := sync.OnceValues(func() (map[string][]host.Process, error) { return s.config.Below(s.config.Dir) })
	var failures []error
	for _, e := range entries {
		if key := keyOf(e); key != "" {
			failures = append(failures, s.endIfEarlier(ctx, key, filepath.Join(s.config.Dir, e.Name()), running, told))
		}
	}
	return errors.Join(failures...)
}

// endIfEarlier is endEarlier for the client with a mountpoint. What is bound of it is not to be
// had from another, which may have other files at that place: if it ends before, that stays dead
// until it is unmounted.
func (s *Clients) endIfEarlier(ctx context.Context, key, point string, running func() (map[string][]host.Process, error), told map[string]bool) error {
	m, err := host.MountedAt(point)
	if err != nil || m == nil || m.FSType != s.config.FSType { // it is being mounted yet, or is the kernel's
		return err
	}
	s.mu.Lock()
	shared := s.shared[key]
	s.mu.Unlock()
	if shared != nil && shared.isOurs(point, nil) {
		return nil
	}
	all, err := running()
	if err != nil {
		return err
	}
	processes := all[filepath.Base(point)]
	if shared != nil && shared.isOurs(point, processes) {
		return nil
	}
	c := &Client{Mountpoint: point, major: m.Major, minor: m.Minor}
	bound, err := c.bound()
	switch {
	case err != nil:
		return err
	case len(bound) > 0:
		if len(processes) == 0 && !told[point] {
			told[point] = true
			s.log.Error("client of an earlier configuration, or dvold, has ended: stop the containers of its volumes, and start them again", "mountpoint", point, "volumes", len(bound))
		}
		return nil
	case len(processes) == 0:
		if err := unmountDead(point); err != nil {
			return err
		}
		return host.RemoveMountpoint(point)
	}
	c.Process = processes[0]
	if err := c.end(ctx, s.config.EndTime); err != nil {
		return err
	}
	s.log.Info("client of an earlier configuration ended, for nothing is mounted of it", "process", c.PID, "mountpoint", point)
	return nil
}
