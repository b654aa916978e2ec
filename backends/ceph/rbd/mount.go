//go:build ceph && cgo

package rbd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/program"
)

// Mount makes the volume appear at target, by the mapping that Connect has made, or
// one of its own where no fence needs to know it. It is ErrInvalid to have it writable
// and not alone: others would write, too.
func (p *Pool) Mount(ctx context.Context, handle, target string, o backends.MountOptions) error {
	return wrap("mount", handle, p.mount(ctx, handle, target, o))
}

func (p *Pool) mount(ctx context.Context, handle, target string, o backends.MountOptions) error {
	i, err := imageOf(handle)
	if err != nil {
		return err
	}
	if !o.ReadOnly && !o.Alone {
		return fmt.Errorf("an image has one writer at a time: make it exclusive, or readonly (dvold volume set --access): %w", backends.ErrInvalid)
	}
	if o.Identity != nil && !domainPattern.MatchString(o.Identity.Domain) { // another fencer's, such as a command's
		o.Identity = nil
	}
	done, err := p.turns.of(i).Take(ctx)
	if err != nil {
		return err
	}
	defer done()
	if p.hanging.Left(unmounting(target)) { // it might take away what is mounted now
		return fmt.Errorf("an earlier unmount of it has not ended: %w", backends.ErrUnavailable)
	}
	if err := p.checkReady(ctx, i); err != nil {
		return err
	}
	if _, err := p.look(ctx, i); err != nil {
		return err
	}
	mounted, err := host.MountedAt(target)
	if err != nil {
		return err
	}
	if mounted != nil {
		if err := p.checkMounted(ctx, i, mounted, o); err != nil {
			return err
		}
		p.seen.mounted(i, target, o)
		return nil
	}
	p.wanted(i)
	m, err := p.mapping(ctx, i, o)
	if err != nil {
		return err
	}
	if err := p.show(ctx, i, m, target, o.ReadOnly); err != nil {
		if o.Identity == nil { // else it is Connect's
			err = p.undoUnused(ctx, i, m, err)
		}
		return err
	}
	p.seen.mounted(i, target, o)
	return nil
}

// undoUnused is undo of a mapping that nobody uses.
func (p *Pool) undoUnused(ctx context.Context, i image, m *mapping, err error) error {
	if busy, looking := m.busy(); looking != nil || busy {
		return err
	}
	return p.undo(ctx, i, err)
}

// mapping returns what a volume is to be mounted of.
func (p *Pool) mapping(ctx context.Context, i image, o backends.MountOptions) (*mapping, error) {
	if o.ReadOnly {
		return p.mappingToRead(ctx, i)
	}
	if o.Identity == nil {
		m, _, err := p.connect(ctx, i, "")
		return m, err
	}
	m, err := p.mapper.find(i)
	if err == nil && m == nil {
		err = fmt.Errorf("the mapping by which this host would be fenced is not there any more: %w", backends.ErrUnavailable)
	}
	if err == nil {
		err = p.checkIdentity(ctx, i, m, o.Identity)
	}
	return m, err
}

// mappingToRead is one to which nobody writes, or the one through which this host does.
func (p *Pool) mappingToRead(ctx context.Context, i image) (*mapping, error) {
	m, err := p.mapper.find(i)
	if err != nil {
		return nil, err
	}
	if m != nil {
		busy, err := m.busy()
		if err != nil || busy || m.readOnly && !m.ended {
			return m, err
		}
	}
	if err := p.mapper.detach(ctx, i); err != nil {
		return nil, err
	}
	wait := p.config.MountTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("it took more than %v (mount_timeout)", wait))
	defer cancel()
	if m, err = p.mapper.attach(ctx, i, true); err != nil {
		return nil, p.undo(ctx, i, fmt.Errorf("map image %s: %w", p.config.within(i.name), err))
	}
	return m, nil
}

// root is the directory of an image's file system that is the volume.
func (i image) root() string {
	if i.adopted {
		return "."
	}
	return volumeDir
}

// checkMounted returns an error unless a mount shows the volume in the way that is
// asked for, by the client that is recorded.
func (p *Pool) checkMounted(ctx context.Context, i image, mounted *mountinfo.Info, o backends.MountOptions) error {
	m, err := p.mapper.find(i)
	if err != nil {
		return err
	}
	if m == nil || mounted.Major != m.major || mounted.Minor != m.minor || mounted.Root != filepath.Join("/", i.root()) {
		return fmt.Errorf("something else is mounted at %s: %w", mounted.Mountpoint, backends.ErrInUse)
	}
	if got := host.IsReadOnly(mounted); got != o.ReadOnly {
		return fmt.Errorf("it is mounted at %s already, with read-only %t: %w", mounted.Mountpoint, got, backends.ErrInUse)
	}
	if o.Identity != nil && !o.ReadOnly {
		return p.checkIdentity(ctx, i, m, o.Identity)
	}
	return nil
}

// show mounts the file system of an image, and has the volume appear at target.
func (p *Pool) show(ctx context.Context, i image, m *mapping, target string, readOnly bool) error {
	bound := false
	err := p.inside(ctx, i, m, readOnly, func(root *os.File) error {
		dir := root
		if !i.adopted {
			var err error
			if dir, err = host.OpenWithin(root, volumeDir, unix.O_RDONLY|unix.O_DIRECTORY, 0); err != nil {
				return err
			}
			defer dir.Close()
		}
		if !readOnly {
			if err := grow(m.block, root); err != nil { // there is less room then, and no more to it
				p.log.Warn("a file system does not take up its image", "image", p.config.within(i.name), "err", err)
			}
		}
		err := host.BindMount(dir, target, readOnly)
		bound = err == nil
		return err
	})
	if err != nil && bound {
		if undo := host.UnmountSoon(context.WithoutCancel(ctx), target); undo != nil {
			err = fmt.Errorf("%w; %w", err, undo)
		}
	}
	return err
}

// point is where a file system is mounted for a moment.
func (p *Pool) point(i image) string { return filepath.Join(p.dir, i.key()+".fs") }

// inside calls f with the root directory of an image's file system, which is mounted
// meanwhile.
func (p *Pool) inside(ctx context.Context, i image, m *mapping, readOnly bool, f func(root *os.File) error) (err error) {
	if err := host.ClearMountpoint(ctx, p.point(i)); err != nil {
		return err
	}
	s, err := within(ctx, &p.hanging, "read "+m.path, m.read, nil)
	if err != nil {
		return err
	}
	if s.kind == "" {
		return fmt.Errorf("on image %s there is no file system that dvold knows, such as ext4 and xfs: %w", p.config.within(i.name), backends.ErrInvalid)
	}
	if err := p.prepare(ctx, m, s, readOnly); err != nil {
		return err
	}
	if err := os.Mkdir(p.point(i), 0o700); err != nil {
		return err
	}
	if err := p.mountFS(ctx, i, m, s, readOnly); err != nil {
		if undoing := host.ClearMountpoint(context.WithoutCancel(ctx), p.point(i)); undoing != nil {
			err = fmt.Errorf("%w; %w", err, undoing)
		}
		return err
	}
	root, err := os.OpenFile(p.point(i), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err == nil {
		err = f(root)
		root.Close()
	}
	return cmp.Or(err, host.ClearMountpoint(context.WithoutCancel(ctx), p.point(i)))
}

// mountFS mounts a file system at the image's point.
func (p *Pool) mountFS(ctx context.Context, i image, m *mapping, s superblock, readOnly bool) error {
	data, flags := map[string]string{"ext4": "errors=remount-ro", "xfs": "nouuid"}[s.kind], uintptr(0)
	if m.readOnly { // no journal is replayed: that would be a write
		data, flags = map[string]string{"ext4": "noload", "xfs": "nouuid,norecovery"}[s.kind], unix.MS_RDONLY
	}
	mount := func() (string, error) { return p.point(i), unix.Mount(m.path, p.point(i), s.kind, flags, data) }
	_, err := within(ctx, &p.hanging, "mount "+p.point(i), mount, func(late string) { _ = host.Unmount(late) })
	switch {
	case errors.Is(err, unix.EBUSY) && m.readOnly != readOnly:
		return fmt.Errorf("it is mounted on this host in the other way: %w", backends.ErrInUse)
	case err != nil:
		return fmt.Errorf("mount %s of image %s: %w", s.kind, p.config.within(i.name), err)
	}
	return nil
}

// prepare replays the journal of a file system that is mounted nowhere, and mends what
// can be mended without anybody's judgement. To one that is to be read only it does nothing, but it must
// not need any of that.
func (p *Pool) prepare(ctx context.Context, m *mapping, s superblock, readOnly bool) error {
	busy, err := m.busy()
	if err != nil || busy {
		return err
	}
	switch {
	case m.readOnly && s.kind == "xfs":
		said, err := program.Run(ctx, []string{"xfs_logprint", "-t", m.path}, []string{program.SearchPath}, programTime, nil)
		if err == nil && !strings.Contains(said, "<CLEAN>") {
			err = errDirty
		}
		return err
	case m.readOnly && s.dirty:
		return errDirty
	case readOnly || s.kind != "ext4": // xfs does so when it is mounted
		return nil
	}
	// 1: it was mended. See e2fsck(8).
	said, err := program.Run(ctx, []string{"e2fsck", "-p", m.path}, []string{program.SearchPath}, programTime, nil)
	switch {
	case err == nil:
		return nil
	case ctx.Err() == nil && strings.Contains(err.Error(), "exit status 1:"):
		p.log.Warn("a file system was mended", "device", m.path, "said", said)
		return nil
	case !strings.Contains(err.Error(), "exit status "): // it was not done in time, or one from before hangs
		return fmt.Errorf("e2fsck -p: %w: %w", err, backends.ErrUnavailable)
	}
	return fmt.Errorf("e2fsck -p: %w: it must be mended by hand: map the image, and run e2fsck: %w", err, backends.ErrUnavailable)
}

var errDirty = fmt.Errorf("it was not unmounted by its last writer, so that it can't be read without a write: have it mounted writable once (dvold volume set --access exclusive): %w", backends.ErrUnavailable)

// Unmount undoes Mount, and takes the mapping away, unless what was mounted is in use by another
// mount, as a copy of it in another mount namespace: then that is done as soon as it is not. Where
// nothing was mounted, a device that something has all the same is ErrInUse: it may be a mount or
// a check that was left behind, and can write yet.
func (p *Pool) Unmount(ctx context.Context, handle, target string) error {
	return wrap("unmount", handle, p.unmount(ctx, handle, target))
}

func unmounting(target string) string { return "unmount " + target }

func (p *Pool) unmount(ctx context.Context, handle, target string) error {
	i, err := imageOf(handle)
	if err != nil {
		return err
	}
	done, err := p.turns.of(i).Take(ctx)
	if err != nil {
		return err
	}
	defer done()
	mounted, err := host.IsMountpoint(target)
	if err != nil {
		return err
	}
	mounted = mounted || p.seen.isMounted(i, target) // by an unmount that was left behind it may be so no more
	if err := doWithin(ctx, &p.hanging, unmounting(target), func() error { return host.Unmount(target) }); err != nil {
		return err
	}
	p.seen.unmounted(i, target)
	if err := host.ClearMountpoint(ctx, p.point(i)); err != nil {
		return err
	}
	err = p.mapper.detach(ctx, i)
	if errors.Is(err, backends.ErrInUse) && (mounted || p.seen.isOver(i) || p.isReadOnly(i)) {
		p.seen.over(i)
		return nil
	}
	if err != nil {
		return err // it has a client yet, which may be fenced
	}
	p.seen.disconnected(i)
	return nil
}

// isReadOnly tells whether an image is mapped for nobody to write to it.
func (p *Pool) isReadOnly(i image) bool {
	m, err := p.mapper.find(i)
	return err == nil && m != nil && m.readOnly
}

// release takes away the mapping of an image, unless a file system of it is mounted.
func (p *Pool) release(ctx context.Context, i image) error {
	if err := host.ClearMountpoint(ctx, p.point(i)); err != nil {
		return err
	}
	err := p.mapper.detach(ctx, i)
	if errors.Is(err, backends.ErrInUse) {
		p.seen.over(i)
		return nil
	}
	if err == nil {
		p.seen.disconnected(i)
	}
	return err
}
