package gluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// ownOptions are those of a client that serves one exclusive volume. What a
// process has written to a file it closes is with the bricks when close(2)
// returns, so that a client whose files are all closed has nothing left to send.
var ownOptions = [...]string{flushOnClose}

const flushOnClose = "--xlator-option=*write-behind.flush-behind=off"

// ownPrefix begins the name of the mountpoint of a client of one volume, which
// ends with the name of the directory where the volume is mounted.
const ownPrefix = "own."

// ownPoint is where the client of the volume at target mounts the Gluster volume
// for a moment. A volume that is exclusive is mounted at one place.
func (p *Pool) ownPoint(target string) string {
	return filepath.Join(p.dir, ownPrefix+filepath.Base(target))
}

// mountOwn mounts a volume through a client of its own: the file system that
// appears at target is mounted nowhere else, so that its end is that of all
// access to the volume, and the client's.
//
// The volume is the directory path of the client's file system, which bind makes
// appear at target. If the volume is to be fenced by the address of the client,
// that is bound to it, and the bricks must see it.
func (p *Pool) mountOwn(ctx context.Context, s spec, path, target string, o backends.MountOptions, bind func(root string) error) error {
	source, fenced, err := recordedSource(o.Identity, s.volume)
	if err != nil {
		return err
	}
	options := ownOptions[:]
	if fenced {
		options = append(options[:len(options):len(options)], bindOption(source.String()))
	}
	mounted, err := host.MountedAt(target)
	if err != nil {
		return err
	}
	if mounted != nil {
		return p.checkOwn(mounted, path, o.ReadOnly, options)
	}
	s.options = slices.Concat(s.options, options)
	s.mountpoint = p.ownPoint(target)
	if err := p.clearOwn(ctx, s.mountpoint, target); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.config.MountTimeout, fmt.Errorf("no answer for %v (mount_timeout)", p.config.MountTimeout))
	defer cancel()
	begin := time.Now()
	c, err := s.start(ctx)
	if err != nil {
		return err
	}
	if fenced {
		err = p.checkSeen(ctx, c, s.volume, source)
	}
	if err == nil {
		err = bind(c.mountpoint)
	}
	if err == nil {
		err = host.Unmount(c.mountpoint)
	}
	if err == nil {
		err = host.RemoveMountpoint(c.mountpoint)
	}
	if err != nil {
		return errors.Join(err, p.abandon(ctx, c, target))
	}
	p.log.Info("client of one volume started", "process", c.PID, "target", target, "took", time.Since(begin).Round(time.Millisecond))
	return nil
}

// abandon undoes a mount that was not handed out.
func (p *Pool) abandon(ctx context.Context, c *client, target string) error {
	if m, err := host.MountedAt(target); err != nil || m != nil && m.Major == c.major && m.Minor == c.minor {
		if err := errors.Join(err, host.Unmount(target)); err != nil {
			return err
		}
	}
	if err := kill(c.Process); err != nil {
		return err
	}
	if err := awaitEnd(context.WithoutCancel(ctx), c.Process); err != nil {
		return err
	}
	if err := unmountDead(c.mountpoint); err != nil {
		return err
	}
	return host.RemoveMountpoint(c.mountpoint)
}

// clearOwn takes away what an earlier mount of the volume at target has left
// that was cut short: then its client serves nothing but its own mountpoint. It
// is ErrInUse if it may serve more.
func (p *Pool) clearOwn(ctx context.Context, point, target string) error {
	mounted, err := host.MountedAt(point)
	if err != nil {
		return err
	}
	if mounted != nil {
		at, err := host.MountedAt(target)
		if err != nil {
			return err
		}
		if at != nil && at.Major == mounted.Major && at.Minor == mounted.Minor {
			return fmt.Errorf("%s shows it, though its client was not ready: %w", target, backends.ErrInUse)
		}
		if err := unix.Unmount(point, unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.ENOTCONN) {
			return &os.PathError{Op: "unmount", Path: point, Err: err}
		}
	}
	if err := p.awaitOwn(ctx, point); err != nil {
		return err
	}
	return host.RemoveMountpoint(point)
}

// awaitOwn waits until the clients that were started for a mountpoint have ended.
func (p *Pool) awaitOwn(ctx context.Context, point string) error {
	processes, err := clientsAt(point)
	if err != nil {
		return err
	}
	for _, c := range processes {
		if err := awaitEnd(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// unmountOwn is Unmount for what may be a volume with a client of its own, which
// is to have ended by then, unless a container still has the volume.
func (p *Pool) unmountOwn(ctx context.Context, target string) error {
	m, err := host.MountedAt(target)
	if err != nil {
		return err
	}
	if err := host.Unmount(target); err != nil {
		return err
	}
	processes, err := clientsAt(p.ownPoint(target))
	if err != nil || len(processes) == 0 || m == nil {
		return err
	}
	users, err := host.OtherUsers(ctx, m)
	if err != nil || len(users) > 0 { // whoever proves that nothing is left finds them, too
		return err
	}
	return p.awaitOwn(ctx, p.ownPoint(target))
}

// Servers are those that the client of the volume at target is connected to.
func (p *Pool) Servers(_ context.Context, _, target string) ([]netip.Addr, error) {
	processes, err := clientsAt(p.ownPoint(target))
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

// checkOwn returns an error unless a mount shows the directory path of a file
// system that a client of its own serves, in the way that is asked for, and with
// the options.
func (p *Pool) checkOwn(m *mountinfo.Info, path string, readOnly bool, options []string) error {
	processes, err := clientsAt(p.ownPoint(m.Mountpoint))
	if err != nil {
		return err
	}
	switch {
	case m.FSType != fileSystem || m.Root != rootOf(path):
		return fmt.Errorf("something else is mounted at %s: %w", m.Mountpoint, backends.ErrInUse)
	case isReadOnly(m) != readOnly:
		return fmt.Errorf("it is mounted at %s already, with read-only %t: %w", m.Mountpoint, !readOnly, backends.ErrInUse)
	case len(processes) == 0:
		return fmt.Errorf("its client has ended: stop its containers, and start them again: %w", backends.ErrUnavailable)
	}
	args, err := arguments(processes[0].PID)
	if err != nil {
		return err
	}
	for _, option := range options {
		if !slices.Contains(args, option) {
			return fmt.Errorf("its client runs without %s: stop its containers, and start them again: %w", option, backends.ErrInUse)
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

// bindAt makes a directory below root appear at target: path is "." for root.
func bindAt(root, path, target string, readOnly bool) error {
	r, err := os.OpenFile(root, unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer r.Close()
	dir, err := openBelow(r, path)
	if err != nil {
		return err
	}
	defer dir.Close()
	mounted, err := host.IsMountpoint(target)
	if err != nil {
		return err
	}
	if !mounted {
		return host.BindMount(dir, target, readOnly)
	}
	want, err := dir.Stat()
	if err != nil {
		return err
	}
	got, err := os.Lstat(target)
	if err != nil {
		return err
	}
	m, err := host.MountedAt(target)
	if err != nil {
		return err
	}
	if !os.SameFile(want, got) || m == nil || isReadOnly(m) != readOnly {
		return fmt.Errorf("something else is mounted at %s: %w", target, backends.ErrInUse)
	}
	return nil
}

// openBelow opens a directory of a Gluster volume, following no symbolic link.
func openBelow(root *os.File, path string) (*os.File, error) {
	dir, err := host.OpenWithin(root, path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w: %w", err, backends.ErrNotFound)
	case errors.Is(err, unix.ELOOP):
		err = fmt.Errorf("%w: it is reached through a symbolic link: %w", err, backends.ErrInvalid)
	}
	return dir, err
}
