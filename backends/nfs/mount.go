package nfs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
)

// mountFlags keep what a volume holds from being more than data.
const mountFlags = unix.MS_NOSUID | unix.MS_NODEV

// mountNFS is mount(2) for NFS.
func mountNFS(source, point string, readOnly bool, data string) error {
	flags := uintptr(mountFlags)
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	return os.NewSyscallError("mount", unix.Mount(source, point, "nfs", flags, data))
}

// mount mounts source at point, a directory at which nothing is mounted but what
// an earlier call may yet do, for which it waits. mount(2) waits for the server for as
// long as that is silent.
func (p *Pool) mount(ctx context.Context, source, point string, readOnly bool, data string) error {
	try := func() error { return mountNFS(source, point, readOnly, data) }
	return p.mounts.Do(ctx, point, try, func() {
		_ = unix.Unmount(point, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	})
}

// limit bounds what needs a mount.
func (p *Pool) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	wait := p.config.MountTimeout
	return context.WithTimeoutCause(ctx, wait, fmt.Errorf("no answer for %v (mount_timeout)", wait))
}

// mountPool mounts the pool at point, which it makes.
func (p *Pool) mountPool(ctx context.Context, point string, own bool) error {
	if err := os.Mkdir(point, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return p.mountExport(ctx, p.config, point, own, false)
}

// mountExport mounts what c describes at point, in the best version that the
// server speaks.
func (p *Pool) mountExport(ctx context.Context, c Config, point string, own, readOnly bool) error {
	if err := c.checkLocks(ctx); err != nil {
		return err
	}
	w, err := c.find(ctx)
	if err != nil {
		return err
	}
	var first error
	for _, version := range c.versions() {
		err := p.mount(ctx, c.source(), point, readOnly, mountData(c, version, w, own))
		if err == nil {
			p.log.Info("export was mounted", "source", c.source(), "mountpoint", point, "server", w.server, "version", version, "own", own)
			return nil
		}
		if !errors.As(err, new(*os.SyscallError)) {
			return fmt.Errorf("mount %s: %w", c.source(), err)
		}
		if first == nil {
			first = explainMount(c, version, err)
		}
		if !errors.Is(err, unix.EPROTONOSUPPORT) && !errors.Is(err, unix.EINVAL) {
			return explainMount(c, version, err)
		}
	}
	return first
}

// serverOf is the address that a mount has its files from.
func serverOf(m *mountinfo.Info) (netip.Addr, error) {
	for o := range strings.SplitSeq(m.VFSOptions, ",") {
		if address, ok := strings.CutPrefix(o, "addr="); ok {
			return netip.ParseAddr(address)
		}
	}
	return netip.Addr{}, fmt.Errorf("the mount table does not say which server %s is of", m.Mountpoint)
}

// isReadOnly tells whether nothing can be written through a mount.
func isReadOnly(m *mountinfo.Info) bool {
	return host.IsReadOnly(m) || host.HasOption(m.VFSOptions, "ro")
}

// detach takes away what is mounted at point, which nobody uses and whose server is
// silent, and point. The call that does so is left behind: once the mount is out of the
// table, it waits for the server.
func (p *Pool) detach(ctx context.Context, point string) error {
	failed := make(chan error, 1)
	p.upkeep.Go(func(context.Context) {
		if err := unix.Unmount(point, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil {
			failed <- &os.PathError{Op: "unmount", Path: point, Err: err}
		}
	})
	for {
		mounted, err := host.IsMountpoint(point)
		if err != nil {
			return err
		}
		if !mounted {
			return host.RemoveMountpoint(point)
		}
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
