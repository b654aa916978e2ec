package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/volumes"
)

// movedDir is where moved data lies in its pool, as data to be adopted.
const movedDir = "migrated"

// movedHandle is the handle of a volume that has adopted its moved data.
func movedHandle(name string) string { return movedDir + "/" + name }

// move renames the data into the pool and has the volume adopt it there.
// Adopted data is never deleted by dvold, so there is no moment, crashes
// included, at which it could be lost: it is in the one place or the other,
// and a repeat goes on from there.
func (m *Migrator) move(ctx context.Context, r Request) error {
	// What an earlier call is about to take back is not to be adopted.
	if _, moving := m.moving.LoadOrStore(r.Name, nil); moving {
		return fmt.Errorf("an earlier call moves it still, or moves it back: repeat the command in a minute: %w", volumes.ErrInUse)
	}
	defer m.moving.Delete(r.Name)
	if r.Size != "" {
		return fmt.Errorf("what is moved has no size that dvol could limit: leave out --size, or --move: %w", volumes.ErrInvalid)
	}
	pool, err := m.movablePool(r.Pool)
	if err != nil {
		return err
	}
	data, err := openLocal(r.DockerRoot, r.Name)
	if errors.Is(err, volumes.ErrNotFound) {
		return m.resume(ctx, pool, r.Name, err)
	}
	if err != nil {
		return err
	}
	defer data.Close()
	if err := m.checkFree(ctx, r.Name); err != nil {
		return err
	}
	local, err := openVolume(r.DockerRoot, r.Name)
	if err != nil {
		return err
	}
	defer local.Close()
	moved, err := makeMoved(ctx, pool)
	if err != nil {
		return fmt.Errorf("pool %q: %w", pool.Name, err)
	}
	defer moved.Close()
	if err := checkUnused(ctx, data); err != nil {
		return err
	}
	m.step("move: looked at")
	renamed, err := rename(local, dataDir, moved, r.Name)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%s/%s is in the way, of an earlier volume: %w", moved.Name(), r.Name, volumes.ErrExists)
	}
	if !renamed {
		return err
	}
	m.step("move: renamed")
	if err == nil {
		err = checkUnused(ctx, data) // again: a container may have come in between
	}
	m.step("move: looked at again")
	if err == nil {
		err = m.adopt(ctx, pool, r.Name)
	}
	if err != nil {
		return m.moveBack(ctx, err, pool, local, moved, r.Name)
	}
	return nil
}

// resume goes on with a move that was cut short after the rename, or else returns why
// there is nothing to move.
func (m *Migrator) resume(ctx context.Context, pool volumes.Pool, name string, missing error) error {
	moved, err := openMoved(ctx, pool)
	if errors.Is(err, fs.ErrNotExist) {
		return missing
	}
	if err != nil {
		return fmt.Errorf("pool %q: %w", pool.Name, err)
	}
	defer moved.Close()
	data, err := openPlain(moved, name)
	if errors.Is(err, fs.ErrNotExist) {
		return missing
	}
	if err != nil {
		return err
	}
	defer data.Close()
	v, err := m.volumes.Get(ctx, name)
	if err == nil && hasMoved(v, pool, name) {
		return nil
	}
	if err = taken(err); err == nil {
		err = checkUnused(ctx, data)
	}
	if err == nil {
		err = m.adopt(ctx, pool, name)
	}
	if err != nil {
		return fmt.Errorf("its data is at %s since an earlier try: %w", data.Name(), err)
	}
	return nil
}

// hasMoved tells whether v has adopted the data that was moved for it.
func hasMoved(v volumes.Volume, pool volumes.Pool, name string) bool {
	return v.Adopted && v.Pool == pool.Name && v.Handle == movedHandle(name)
}

// movablePool returns the pool asked for, if it is a directory.
func (m *Migrator) movablePool(name string) (volumes.Pool, error) {
	name = cmp.Or(name, m.volumes.DefaultPool())
	for _, p := range m.volumes.Pools() {
		if p.Name != name {
			continue
		}
		if p.Type != "local" {
			return p, fmt.Errorf("pool %q is of type %s: only a local pool can be moved to: leave out --move: %w", name, p.Type, volumes.ErrInvalid)
		}
		return p, nil
	}
	return volumes.Pool{}, fmt.Errorf("pool %q is not configured on this host: %w", name, volumes.ErrInvalid)
}

// openMoved opens the directory of moved data, in a pool that is available:
// where a mount is required and missing, nothing must be put below it. A plan
// tells, and makes the pool's directory where it may.
func openMoved(ctx context.Context, pool volumes.Pool) (*os.File, error) {
	root, err := openRoot(ctx, pool)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return openPlain(root, movedDir)
}

// makeMoved is openMoved, and makes that directory.
func makeMoved(ctx context.Context, pool volumes.Pool) (*os.File, error) {
	root, err := openRoot(ctx, pool)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	err = unix.Mkdirat(int(root.Fd()), movedDir, 0o711)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &os.PathError{Op: "mkdir", Path: root.Name() + "/" + movedDir, Err: err}
	}
	if err := root.Sync(); err != nil {
		return nil, err
	}
	return openPlain(root, movedDir)
}

func openRoot(ctx context.Context, pool volumes.Pool) (*os.File, error) {
	if _, err := pool.Backend.Plan(ctx, backends.Request{ID: movedDir}); err != nil {
		return nil, err
	}
	return os.OpenFile(pool.Location, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// adopt makes the volume. A caller who leaves does not end that: as long as it
// goes on it can't be told whether the data is to go back.
func (m *Migrator) adopt(ctx context.Context, pool volumes.Pool, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lateTimeout)
	defer cancel()
	return m.volumes.Create(ctx, name, map[string]string{"pool": pool.Name, "adopt": movedHandle(name)})
}

// rename moves a directory for good, and tells whether it has moved: it may have also if that
// could not be made durable. It replaces nothing, which is EEXIST.
func rename(from *os.File, name string, to *os.File, newName string) (renamed bool, err error) {
	err = unix.Renameat2(int(from.Fd()), name, int(to.Fd()), newName, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EXDEV) {
		return false, fmt.Errorf("%s and %s are not on one mount of one file system: leave out --move: %w", from.Name(), to.Name(), volumes.ErrInvalid)
	}
	if err != nil {
		return false, &os.LinkError{Op: "rename", Old: filepath.Join(from.Name(), name), New: filepath.Join(to.Name(), newName), Err: err}
	}
	return true, errors.Join(to.Sync(), from.Sync())
}

// moveBack undoes the rename after the move failed, and returns why it did. If
// the volume has the moved data after all, as when the answer to its last write
// was lost, the move has not failed.
func (m *Migrator) moveBack(ctx context.Context, failed error, pool volumes.Pool, local, moved *os.File, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lateTimeout)
	defer cancel()
	v, err := m.volumes.Get(ctx, name)
	back := false
	switch {
	case err == nil && hasMoved(v, pool, name):
		m.log.Warn("volume was moved, though a call for it failed", "volume", name, "pool", v.Pool, "id", v.ID, "err", failed)
		return nil
	case err == nil || errors.Is(err, volumes.ErrNotFound): // one of that name is somebody else's
		back, err = rename(moved, name, local, dataDir)
	}
	if !back {
		err = fmt.Errorf("its data is at %s/%s now: repeat the migration, or move it back to %s/%s: %w", moved.Name(), name, local.Name(), dataDir, err)
	}
	if err != nil {
		return fmt.Errorf("%w; %w", failed, err)
	}
	return failed
}
