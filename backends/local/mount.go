package local

import (
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

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
		if undo := host.UnmountSoon(context.WithoutCancel(ctx), target); undo != nil {
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
	var pool, mounted unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &pool); err != nil {
		return &os.PathError{Op: "statfs", Path: dir.Name(), Err: err}
	}
	if err := unix.Statfs(target, &mounted); err != nil {
		return &os.PathError{Op: "statfs", Path: target, Err: err}
	}
	want := o.ReadOnly || pool.Flags&unix.ST_RDONLY != 0
	if got := mounted.Flags&unix.ST_RDONLY != 0; got != want {
		return fmt.Errorf("it is mounted at %s already, with read-only %t: %w", target, got, backends.ErrInUse)
	}
	return nil
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
