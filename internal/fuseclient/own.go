package fuseclient

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// Own is a volume with a client of its own: the file system that appears where it
// is mounted is mounted nowhere else, so that its end is that of all access to the
// volume, and the client's.
type Own struct {
	Spec
	// Key tells the volume from all others of the pool; it is a file name.
	Key string
	// Path is where the volume lies in the client's file system, "." for all of it.
	Path string
	// Within says that the volume is a directory of Path, whatever its name.
	Within bool
	// Options are arguments without which a client that runs already is another than
	// is wanted.
	Options []string
}

// ownPrefix begins the name of the mountpoint of a client of one volume, which
// ends with the volume's key.
const ownPrefix = "own."

// OwnPoint is where the client of a volume mounts its file system for a moment. A
// volume that is exclusive is mounted at one place.
func (s *Clients) OwnPoint(key string) string {
	return filepath.Join(s.config.Dir, ownPrefix+key)
}

// MountOwn mounts a volume through a client of its own, which it starts. Once that is
// up it calls check, unless that is nil, and bind, which makes the volume appear at
// target. A volume that is mounted there already, in the same way, is left alone.
func (s *Clients) MountOwn(ctx context.Context, o Own, target string, readOnly bool, check func(context.Context, *Client) error, bind func(root string) error) error {
	mounted, err := host.MountedAt(target)
	if err != nil {
		return err
	}
	if mounted != nil {
		return s.reuseOwn(ctx, mounted, o, readOnly)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.config.Wait, s.late())
	defer cancel()
	begin := time.Now()
	c, err := s.StartOwn(ctx, o)
	if err != nil {
		return err
	}
	if check != nil {
		err = check(ctx, c)
	}
	if err == nil {
		err = bind(c.Mountpoint)
	}
	if err == nil {
		err = c.leavePoint(ctx)
	}
	if err != nil {
		return errors.Join(err, s.abandon(ctx, o.Spec, c, target))
	}
	s.log.Info("client of one volume started", "process", c.PID, "target", target, "took", time.Since(begin).Round(time.Millisecond))
	return nil
}

// PlaceOwn is MountOwn for a client that StartOwn has started: it starts none, and if
// it fails it leaves the client for EndOwn.
func (s *Clients) PlaceOwn(ctx context.Context, o Own, target string, readOnly bool, bind func(root string) error) error {
	mounted, err := host.MountedAt(target)
	if err != nil {
		return err
	}
	if mounted != nil {
		return s.reuseOwn(ctx, mounted, o, readOnly)
	}
	c, err := s.findOwn(o)
	if err != nil {
		return err
	}
	if c == nil {
		return fmt.Errorf("its client has ended, or serves another mount: %w", backends.ErrUnavailable)
	}
	if err := bind(c.Mountpoint); err != nil {
		return err
	}
	if err := c.leavePoint(ctx); err != nil {
		return errors.Join(err, host.UnmountSoon(context.WithoutCancel(ctx), target)) // or the volume would not be alone
	}
	return nil
}

// reuseOwn returns nil if a mount is the volume's already, in the way that is asked for, and
// then has its client serve nothing else.
func (s *Clients) reuseOwn(ctx context.Context, m *mountinfo.Info, o Own, readOnly bool) error {
	if err := s.checkOwn(m, o, readOnly); err != nil {
		return err
	}
	point := s.OwnPoint(o.Key)
	left, err := host.IsMountpoint(point) // by a crash
	if err != nil || !left {
		return err
	}
	return (&Client{Mountpoint: point}).leavePoint(ctx)
}

// StartOwn starts the client of a volume, in place of one that serves nothing but its
// own mountpoint. It is ErrInUse if there is one that may serve more.
func (s *Clients) StartOwn(ctx context.Context, o Own) (*Client, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.config.Wait, s.late())
	defer cancel()
	if err := s.EndOwn(ctx, o.Key); err != nil {
		return nil, err
	}
	return o.start(ctx, s.OwnPoint(o.Key))
}

func (s *Clients) late() error { return fmt.Errorf("no answer for %v (mount_timeout)", s.config.Wait) }

// findOwn returns the client of a volume that StartOwn has started and that serves
// nothing yet, or nil.
func (s *Clients) findOwn(o Own) (*Client, error) {
	processes, err := s.OwnProcesses(o.Key)
	if err != nil || len(processes) == 0 {
		return nil, err
	}
	return o.found(processes[0], s.OwnPoint(o.Key))
}

// OwnProcesses are the clients that were started for a volume alone, and run.
func (s *Clients) OwnProcesses(key string) ([]host.Process, error) {
	return s.config.At(s.OwnPoint(key))
}

// leavePoint has the client serve nothing but what is bound of it.
func (c *Client) leavePoint(ctx context.Context) error {
	if err := unmountIdle(ctx, c.Mountpoint); err != nil {
		return err
	}
	return host.RemoveMountpoint(c.Mountpoint)
}

// abandon undoes a mount that was not handed out.
func (s *Clients) abandon(ctx context.Context, spec Spec, c *Client, target string) error {
	if m, err := host.MountedAt(target); err != nil || m != nil && m.Major == c.major && m.Minor == c.minor {
		if err := errors.Join(err, host.UnmountSoon(context.WithoutCancel(ctx), target)); err != nil {
			return err
		}
	}
	if err := kill(c.Process); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	if err := awaitEnd(ctx, c.Process, killTime); err != nil {
		return err
	}
	spec.bury(ctx, c.Mountpoint, s.log)
	if err := unmountDead(c.Mountpoint); err != nil {
		return err
	}
	return host.RemoveMountpoint(c.Mountpoint)
}

// EndOwn ends the client of a volume that was started and then mounted nowhere, as by
// a mount that was cut short, and waits for that. It is ErrInUse if the client may serve
// more than its own mountpoint. What is no client of this kind it leaves alone.
func (s *Clients) EndOwn(ctx context.Context, key string) error {
	running, err := s.OwnProcesses(key)
	if err != nil {
		return err
	}
	return s.endOwn(ctx, s.OwnPoint(key), running)
}

// endOwn is EndOwn for what runs: one that is about to end is not found any more.
func (s *Clients) endOwn(ctx context.Context, point string, running []host.Process) error {
	mounted, err := host.MountedAt(point)
	if err != nil || mounted != nil && mounted.FSType != s.config.FSType {
		return err
	}
	if mounted != nil {
		bound, err := (&Client{Mountpoint: point, major: mounted.Major, minor: mounted.Minor}).bound()
		if err != nil {
			return err
		}
		if len(bound) > 0 {
			return fmt.Errorf("%s shows it, though its client was not ready: %w", bound[0].Mountpoint, backends.ErrInUse)
		}
		if len(running) == 0 {
			err = unmountDead(point)
		} else {
			err = unmountIdle(ctx, point)
		}
		if err != nil {
			return err
		}
	}
	for _, c := range running {
		if err := awaitEnd(ctx, c, s.config.EndTime); err != nil {
			return err
		}
	}
	return host.RemoveMountpoint(point)
}

// unmountIdle unmounts what nobody uses, of a client that may end meanwhile.
func unmountIdle(ctx context.Context, point string) error {
	err := host.UnmountSoon(ctx, point)
	if errors.Is(err, unix.ENOTCONN) {
		return nil
	}
	return err
}

// UnmountOwn unmounts what may be a volume with a client of its own, which is to have
// ended by then, unless a container still has the volume. So is one that was started and not
// handed out. It asks nothing of the storage.
func (s *Clients) UnmountOwn(ctx context.Context, key, target string) error {
	m, err := host.MountedAt(target)
	if err != nil {
		return err
	}
	running, err := s.OwnProcesses(key)
	if err != nil {
		return err
	}
	if err := host.Unmount(target); err != nil {
		return err
	}
	if len(running) > 0 && m != nil {
		users, err := host.OtherUsers(ctx, m)
		if err != nil || len(users) > 0 { // whoever proves that nothing is left finds them, too
			return err
		}
	}
	return s.endOwn(ctx, s.OwnPoint(key), running)
}

// Servers are those that the client of a volume is connected to.
func (s *Clients) Servers(key string) ([]netip.Addr, error) {
	processes, err := s.config.At(s.OwnPoint(key))
	if err != nil {
		return nil, err
	}
	var servers []netip.Addr
	for _, c := range processes {
		all, err := c.Peers()
		if err != nil {
			return nil, err
		}
		servers = append(servers, all...)
	}
	return servers, nil
}

// checkOwn returns an error unless a mount shows the volume, of a file system that a
// client of its own serves, in the way that is asked for.
func (s *Clients) checkOwn(m *mountinfo.Info, o Own, readOnly bool) error {
	processes, err := s.config.At(s.OwnPoint(o.Key))
	if err != nil {
		return err
	}
	switch {
	case m.FSType != o.FSType || !o.shownBy(m):
		return fmt.Errorf("something else is mounted at %s: %w", m.Mountpoint, backends.ErrInUse)
	case host.IsReadOnly(m) != readOnly:
		return fmt.Errorf("it is mounted at %s already, with read-only %t: %w", m.Mountpoint, !readOnly, backends.ErrInUse)
	case len(processes) == 0:
		return fmt.Errorf("its client has ended: stop its containers, and start them again: %w", backends.ErrUnavailable)
	}
	args, err := arguments(processes[0].PID)
	if err != nil {
		return err
	}
	for _, option := range o.Options {
		if !slices.Contains(args, option) {
			return fmt.Errorf("its client runs without %s: stop its containers, and start them again: %w", option, backends.ErrInUse)
		}
	}
	return nil
}

// shownBy tells whether a mount of the client's file system shows the volume.
func (o Own) shownBy(m *mountinfo.Info) bool {
	if o.Within {
		return filepath.Dir(m.Root) == rootOf(o.Path)
	}
	return m.Root == rootOf(o.Path)
}

// CheckUnused returns ErrInUse if a client of its own has the volume mounted, or a part of
// it, that lies at path of its file system, which who looks at the shared one can't know: that is another file system. It
// takes a path that no other volume has.
func (k Kind) CheckUnused(path string) error {
	mounts, err := host.Mounts()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if m.FSType == k.FSType && (m.Root == rootOf(path) || strings.HasPrefix(m.Root, rootOf(path)+"/")) {
			return fmt.Errorf("mounted at %s: %w", m.Mountpoint, backends.ErrInUse)
		}
	}
	return nil
}

// rootOf is what a mount table says of a mount of the directory path of a file
// system.
func rootOf(path string) string {
	if path == "." {
		return "/"
	}
	return "/" + path
}
