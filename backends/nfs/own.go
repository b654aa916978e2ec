package nfs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// ownPrefix begins the name of the mountpoint of a mount for one volume, which
// ends with the name of the directory where the volume is mounted.
const ownPrefix = "own."

// ownPoint is where the pool is mounted for a moment, for the volume at target.
func (p *Pool) ownPoint(target string) string {
	return filepath.Join(p.dir, ownPrefix+filepath.Base(target))
}

// mountOwn mounts a volume through a mount of its own: the file system that
// appears at target is mounted nowhere else, so that its end is that of all
// access to the volume.
//
// The pool is mounted, not the directory of the volume, which is then bound out of
// it: a server would follow a symbolic link on the way there, and may refuse to
// have less mounted than it exports.
func (p *Pool) mountOwn(ctx context.Context, handle, target string, o backends.MountOptions) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	mounted, err := host.MountedAt(target)
	if err != nil {
		return err
	}
	if mounted != nil {
		if err := p.checkOwn(mounted, handle, o.ReadOnly); err != nil {
			return err
		}
		return host.ClearMountpoint(ctx, p.ownPoint(target)) // which a crash may have left
	}
	ctx, cancel := p.limit(ctx)
	defer cancel()
	point := p.ownPoint(target)
	if err := host.ClearMountpoint(ctx, point); err != nil { // what a mount that was cut short has left
		return err
	}
	if err := p.mountPool(ctx, point, true); err != nil {
		return errors.Join(err, host.RemoveMountpoint(point))
	}
	d, err := p.at(point)
	if err == nil {
		err = d.Mount(ctx, handle, target, o)
	}
	if gone := host.ClearMountpoint(ctx, point); gone != nil && err == nil { // or the volume would not be alone
		err = errors.Join(gone, host.UnmountSoon(context.WithoutCancel(ctx), target))
	}
	return err
}

// checkOwn returns an error unless a mount shows the volume, through a mount of
// its own, in the way that is asked for.
func (p *Pool) checkOwn(m *mountinfo.Info, handle string, readOnly bool) error {
	switch {
	case !host.IsNFS(m) || !p.showsVolume(m, handle) || !host.HasOption(m.VFSOptions, ownOption):
		return fmt.Errorf("something else is mounted at %s: %w", m.Mountpoint, backends.ErrInUse)
	case isReadOnly(m) != readOnly:
		return fmt.Errorf("it is mounted at %s already, with read-only %t: %w", m.Mountpoint, !readOnly, backends.ErrInUse)
	}
	return nil
}

// showsVolume tells whether a mount of the server's shows a volume.
func (p *Pool) showsVolume(m *mountinfo.Info, handle string) bool {
	server := strings.TrimSuffix(p.config.source(), p.config.path())
	return m.Root == path.Join(p.config.path(), handle) && strings.HasPrefix(m.Source, server)
}

// Servers is the server of the volume at target.
func (p *Pool) Servers(_ context.Context, _, target string) ([]netip.Addr, error) {
	m, err := host.MountedAt(target)
	if err != nil || m == nil || !host.IsNFS(m) {
		return nil, err
	}
	server, err := serverOf(m)
	if err != nil {
		return nil, err
	}
	return []netip.Addr{server}, nil
}
