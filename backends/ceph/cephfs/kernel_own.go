package cephfs

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// A volume that is exclusive is mounted by a client of its own, which the mount is: the
// directory of the volume, and nothing above it, so that it needs nothing that another
// client may have in use.

// ownMounts are the mounts by a kernel's client of its own of what lies there.
func (p *Pool) ownMounts(handle string) (own []*mountinfo.Info, err error) {
	mounts, err := host.Mounts()
	for _, m := range mounts {
		if p.showsKernel(m, handle) && host.HasOption(m.VFSOptions, ownOption) {
			own = append(own, m)
		}
	}
	return own, err
}

// placeKernel has a mount that was made for a volume alone appear at target, and nowhere
// else.
func (p *Pool) placeKernel(ctx context.Context, handle, point, target string, readOnly bool) error {
	if err := p.bindKernel(handle, point, target, readOnly); err != nil {
		return err
	}
	if err := host.ClearMountpoint(ctx, point); err != nil { // or the volume would not be alone
		return errors.Join(err, host.UnmountSoon(context.WithoutCancel(ctx), target))
	}
	return nil
}

// bindKernel has the volume appear at target that is mounted at point: all of that, or of
// a sub-volume its data.
func (p *Pool) bindKernel(handle, point, target string, readOnly bool) error {
	dir, err := os.OpenFile(point, unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	if p.config.SubvolumeGroup != "" {
		s, err := inspect(dir, p.pathOf(handle))
		if err == nil {
			err = s.check(isMade(handle))
		}
		if err != nil {
			return err
		}
		if dir, err = s.openData(); err != nil {
			return err
		}
		defer dir.Close()
	}
	return host.BindMount(dir, target, readOnly)
}

// kernelOwn mounts a volume by a client of its own: the one that connect has made, if
// the volume is fenced by its address, or one that it makes.
func (p *Pool) kernelOwn(ctx context.Context, handle, target string, o backends.MountOptions) error {
	mounted, err := host.MountedAt(target)
	if err != nil {
		return err
	}
	point := p.clients.OwnPoint(ownKey(handle))
	known, fenced, err := p.recorded(handle, o.Identity)
	if err != nil {
		return err
	}
	if fenced {
		at := point
		if mounted != nil {
			at = target
		}
		if err := p.checkKernel(ctx, at, known); err != nil {
			return err
		}
	}
	switch {
	case mounted != nil && (!p.showsKernel(mounted, handle) || !host.HasOption(mounted.VFSOptions, ownOption)):
		return fmt.Errorf("something else is mounted at %s: %w", target, backends.ErrInUse)
	case mounted != nil && host.IsReadOnly(mounted) != o.ReadOnly:
		return fmt.Errorf("it is mounted at %s already, with read-only %t: %w", target, !o.ReadOnly, backends.ErrInUse)
	case mounted != nil:
		return host.ClearMountpoint(ctx, point) // which a crash may have left
	case fenced:
		return p.placeKernel(ctx, handle, point, target, o.ReadOnly)
	}
	if err := host.ClearMountpoint(ctx, point); err != nil {
		return err
	}
	if err := p.mountKernel(ctx, handle, point, true); err != nil {
		return err
	}
	if err := p.placeKernel(ctx, handle, point, target, o.ReadOnly); err != nil {
		return errors.Join(err, host.ClearMountpoint(ctx, point))
	}
	return nil
}

// checkKernel returns an error unless the client that has mounted what is at dir is the
// one that was recorded.
func (p *Pool) checkKernel(ctx context.Context, dir, known string) error {
	now, err := p.kernelStatus(ctx, dir)
	if err != nil {
		return fmt.Errorf("%w: %w", err, backends.ErrUnavailable)
	}
	if now.Address != known {
		return fmt.Errorf("its client, %q, is not the one that was recorded to fence this host by, %s: %w", now.Address, known, backends.ErrUnavailable)
	}
	return nil
}

// kernelConnect is connect by the kernel's client.
func (p *Pool) kernelConnect(ctx context.Context, handle string, endEarlier func(but string) error) (string, error) {
	own, err := p.ownMounts(handle)
	if err != nil {
		return "", err
	}
	point := p.clients.OwnPoint(ownKey(handle))
	for _, m := range own {
		if m.Mountpoint == point && p.mounts.Left(point) { // it came too late, and is being taken away
			continue
		}
		if now, err := p.kernelStatus(ctx, m.Mountpoint); err == nil && !now.Blocklisted {
			return now.Address, endEarlier(now.Address)
		}
		if m.Mountpoint != point {
			return "", fmt.Errorf("mounted at %s: %w", m.Mountpoint, backends.ErrInUse)
		}
	}
	if err := host.ClearMountpoint(ctx, point); err != nil {
		return "", err
	}
	if err := endEarlier(""); err != nil {
		return "", err
	}
	if err := p.mountKernel(ctx, handle, point, true); err != nil {
		return "", err
	}
	now, err := p.kernelStatus(ctx, point)
	if err == nil && now.Blocklisted {
		err = fmt.Errorf("the MDS know nothing of its client")
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("%w: %w", err, backends.ErrUnavailable), host.ClearMountpoint(ctx, point))
	}
	p.log.Info("volume was mounted by a client of its own", "handle", handle, "address", now.Address)
	if p.config.Client == "" { // nobody has chosen it
		p.log.Warn("an exclusive volume has the kernel's client, for ceph-fuse is not installed: while it is fenced it may say of a write that it was flushed, and lose it", "handle", handle)
	}
	return now.Address, nil
}

// checkKernelUnused returns ErrInUse if a kernel's client of its own has the volume.
func (p *Pool) checkKernelUnused(handle string) error {
	own, err := p.ownMounts(handle)
	if err == nil && len(own) > 0 {
		err = fmt.Errorf("mounted at %s: %w", own[0].Mountpoint, backends.ErrInUse)
	}
	return err
}

// endKernelOwn takes away what connect has mounted, if a volume's own client is the
// kernel's.
func (p *Pool) endKernelOwn(ctx context.Context, handle string) error {
	point := p.clients.OwnPoint(ownKey(handle))
	m, err := mountedByKernel(point)
	if err != nil || m == nil {
		return err
	}
	return host.ClearMountpoint(ctx, point)
}
