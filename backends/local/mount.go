package local

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// Mount makes the directory of the volume appear at target.
func (p *Pool) Mount(ctx context.Context, handle, target string, o backends.MountOptions) error {
	if err := p.mount(ctx, handle, target, o); err != nil {
		return fmt.Errorf("mount volume %s: %w", handle, classify(err))
	}
	return nil
}

func (p *Pool) mount(ctx context.Context, handle, target string, o backends.MountOptions) error {
	root, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer root.Close()
	dir, err := openVolume(root, handle)
	if err != nil {
		return err
	}
	defer dir.Close()

	mounted, err := host.IsMountpoint(target)
	if err != nil {
		return err
	}
	if mounted {
		return checkMounted(dir, target, o)
	}
	if err := host.BindMount(dir, target, o.ReadOnly); err != nil {
		return err
	}
	if err := checkSame(dir, target); err != nil {
		if undo := host.Unmount(target); undo != nil {
			return fmt.Errorf("%w; %w", err, undo)
		}
		return err
	}
	p.warnUnlimited(dir, handle)
	return nil
}

// checkMounted returns an error unless what is mounted already is the volume,
// in the way that is asked for.
func checkMounted(dir *os.File, target string, o backends.MountOptions) error {
	if err := checkSame(dir, target); err != nil {
		return err
	}
	mounted, err := host.MountedAt(target)
	if err != nil {
		return err
	}
	if mounted == nil {
		return fmt.Errorf("the mount at %s has gone meanwhile: %w", target, backends.ErrUnavailable)
	}
	pool, err := host.Source(dir)
	if err != nil {
		return err
	}
	want := o.ReadOnly || isReadOnly(pool)
	if got := isReadOnly(mounted); got != want {
		return fmt.Errorf("it is mounted at %s already, with read-only %t: %w", mounted.Mountpoint, got, backends.ErrInUse)
	}
	return nil
}

func isReadOnly(m *mountinfo.Info) bool {
	return slices.Contains(strings.Split(m.Options, ","), "ro")
}

// checkSame returns ErrInUse unless target shows dir.
func checkSame(dir *os.File, target string) error {
	want, err := dir.Stat()
	if err != nil {
		return err
	}
	got, err := os.Lstat(target)
	if err != nil {
		return err
	}
	if !os.SameFile(want, got) {
		return fmt.Errorf("something else is mounted at %s: %w", target, backends.ErrInUse)
	}
	return nil
}

// Unmount undoes Mount. It asks nothing of the storage.
func (p *Pool) Unmount(ctx context.Context, handle, target string) error {
	err := ctx.Err()
	if err == nil {
		err = host.Unmount(target)
	}
	if err != nil {
		return fmt.Errorf("unmount volume %s: %w", handle, classify(err))
	}
	return nil
}
