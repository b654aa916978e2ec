package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// Remove moves the volume out of the way first and deletes it then. If ctx
// ends meanwhile the volume is gone, and repeating the call deletes the rest.
func (p *Pool) Remove(ctx context.Context, handle string) error {
	err := p.remove(ctx, handle)
	// Another host may be deleting the same tree: what vanishes under our hands
	// is done, and a repetition finds the rest, in the end nothing.
	for range 100 {
		if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, backends.ErrUnavailable) {
			break
		}
		time.Sleep(10 * time.Millisecond)
		err = p.remove(ctx, handle)
	}
	if err != nil {
		return fmt.Errorf("remove volume %s: %w", handle, classify(err))
	}
	return nil
}

func (p *Pool) remove(ctx context.Context, handle string) error {
	if err := checkHandle(handle); err != nil {
		return err
	}
	name, made := madeName(handle)
	if !made {
		return fmt.Errorf("it was adopted, and adopted data is never deleted: %w", backends.ErrInvalid)
	}
	root, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer root.Close()
	// What an earlier call left would be in the way.
	if err := p.purge(ctx, root, volumesDir, name+discarded, name+unfinished); err != nil {
		return err
	}
	if err := discard(root, name); err != nil {
		return err
	}
	if err := p.purge(ctx, root, volumesDir, name+discarded); err != nil {
		return err
	}
	return p.purge(ctx, root, workDir, name, name+unfinished) // where dvold had both before
}

// purge deletes the directories names in parent, those that are there, and their limits.
func (p *Pool) purge(ctx context.Context, root *os.File, parent string, names ...string) error {
	dir, err := openDir(root, parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, name := range names {
		if err := CheckUnused(dir, name); err != nil {
			return err
		}
		if err := p.release(ctx, root, path.Join(parent, name)); err != nil {
			return err
		}
		if err := removeTree(ctx, dir, name); err != nil {
			return err
		}
	}
	return dir.Sync()
}

// release takes the limit away from the directory at a path in the pool, if there is one.
func (p *Pool) release(ctx context.Context, root *os.File, at string) error {
	dir, err := openDir(root, at)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	return p.limiter.Release(ctx, root, dir, at)
}

// discard takes a volume that exists away from its place.
func discard(root *os.File, name string) error {
	volumes, err := openDir(root, volumesDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer volumes.Close()
	if err := CheckUnused(volumes, name); err != nil {
		return err
	}
	err = move(volumes, name, volumes, name+discarded)
	if err != nil && !missing(err, volumes, name) {
		return err
	}
	return volumes.Sync()
}

// CheckUnused returns ErrInUse if the directory name in parent is mounted
// anywhere in this process's mount namespace, in whole or in part, or if anything
// is mounted in it there. That it is missing is no error. What only others have
// mounted, such as containers, it does not see.
func CheckUnused(parent *os.File, name string) error {
	dir, err := host.OpenBeneath(parent, name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	source, err := host.Source(dir)
	if err != nil {
		return err
	}
	mounts, err := host.MountsOf(source)
	if err != nil {
		return err
	}
	within, err := host.MountsBelow(source.Mountpoint)
	if err != nil {
		return err
	}
	for _, m := range append(mounts, within...) {
		return fmt.Errorf("mounted at %s: %w", m.Mountpoint, backends.ErrInUse)
	}
	return nil
}
