package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
)

// DefaultMode is that of a volume for which the plan says nothing.
const DefaultMode = fs.FileMode(0o755)

const validMode = fs.ModePerm | fs.ModeSetgid | fs.ModeSticky

// Plan checks a request. The only options are those which all backends have.
// A size needs a limiter that can limit volumes here. It makes the directory of
// the pool, if that is missing and no mount is required there: to all other methods, that
// it is missing means that the storage is.
func (p *Pool) Plan(ctx context.Context, r backends.Request) (backends.Volume, error) {
	v, err := p.plan(ctx, r)
	if err != nil {
		return backends.Volume{}, fmt.Errorf("plan volume %s: %w", r.ID, classify(err))
	}
	return v, nil
}

func (p *Pool) plan(ctx context.Context, r backends.Request) (backends.Volume, error) {
	if err := cmp.Or(ctx.Err(), CheckRequest(r)); err != nil {
		return backends.Volume{}, err
	}
	if r.Adopt != "" {
		return p.planAdoption(ctx, r)
	}
	root, err := p.openOrMake(ctx)
	if err != nil {
		return backends.Volume{}, err
	}
	defer root.Close()
	number := uint32(0)
	if r.Size != 0 {
		if number, err = p.limiter.Plan(ctx, root, r.ID); err != nil {
			return backends.Volume{}, err
		}
	}
	handle, err := madeHandle(r.ID, number)
	if err != nil {
		return backends.Volume{}, err
	}
	return backends.Volume{Handle: handle, Size: r.Size, UID: r.UID, GID: r.GID, Mode: r.Mode}, nil
}

// CheckRequest returns ErrInvalid for what no directory can be: options that only other
// backends have, and sizes, owners and modes that there are none of.
func CheckRequest(r backends.Request) error {
	if err := backends.CheckOptions(r.Options); err != nil {
		return err
	}
	if r.Size < 0 {
		return fmt.Errorf("size: %d is below 0: %w", r.Size, backends.ErrInvalid)
	}
	return cmp.Or(checkOwner("uid", r.UID), checkOwner("gid", r.GID), checkMode(r.Mode))
}

func (p *Pool) planAdoption(ctx context.Context, r backends.Request) (backends.Volume, error) {
	if r.UID != nil || r.GID != nil || r.Mode != nil {
		return backends.Volume{}, fmt.Errorf("adopt: what is adopted keeps its owner and mode; leave out uid, gid and mode: %w", backends.ErrInvalid)
	}
	if r.Size != 0 {
		return backends.Volume{}, fmt.Errorf("adopt: what is adopted cannot get a size; leave it out: %w", backends.ErrInvalid)
	}
	handle, err := adoptedHandle(r.Adopt)
	if err != nil {
		return backends.Volume{}, err
	}
	root, err := p.open(ctx)
	if err != nil {
		return backends.Volume{}, err
	}
	defer root.Close()
	dir, err := openVolume(root, handle)
	switch {
	case errors.Is(err, backends.ErrNotFound): // its path is this host's alone, where dvold mounts the pool
		return backends.Volume{}, fmt.Errorf("adopt: there is no directory %q: %w", handle, backends.ErrNotFound)
	case isAny(err, unix.ENOTDIR, unix.ELOOP, unix.EXDEV):
		return backends.Volume{}, fmt.Errorf("adopt: %w: %w", err, backends.ErrInvalid)
	case err != nil:
		return backends.Volume{}, err
	}
	dir.Close()
	return backends.Volume{Handle: handle, Adopted: true}, nil
}

func checkOwner(name string, id *int) error {
	const highest = 1<<32 - 2 // chown(2) takes the one above for "leave it"
	if id != nil && (*id < 0 || *id > highest) {
		return fmt.Errorf("%s: %d is not between 0 and %d: %w", name, *id, highest, backends.ErrInvalid)
	}
	return nil
}

func checkMode(mode *fs.FileMode) error {
	if mode != nil && *mode&^validMode != 0 {
		return fmt.Errorf("mode: %v has more than permissions, setgid and sticky: %w", *mode, backends.ErrInvalid)
	}
	return nil
}

// Create makes a planned volume, owned by root and with mode 0755 if the plan
// says nothing else. The volume appears when it is complete.
func (p *Pool) Create(ctx context.Context, v backends.Volume) error {
	if err := p.create(ctx, v); err != nil {
		return fmt.Errorf("create volume %s: %w", v.Handle, classify(err))
	}
	return nil
}

func (p *Pool) create(ctx context.Context, v backends.Volume) error {
	name, made := madeName(v.Handle)
	if made == v.Adopted || v.Size == 0 && projectOf(name) != 0 {
		return fmt.Errorf("%q is not the handle of such a volume: %w", v.Handle, backends.ErrInvalid)
	}
	root, err := p.open(ctx)
	if err != nil {
		return err
	}
	defer root.Close()
	if v.Adopted {
		dir, err := openVolume(root, v.Handle)
		if err == nil {
			dir.Close()
		}
		return err
	}

	volumes, err := makeDir(root, volumesDir, 0o711)
	if err != nil {
		return err
	}
	defer volumes.Close()
	if err := root.Sync(); err != nil { // also if an earlier call made it
		return err
	}
	if err := p.makeVolume(ctx, volumes, name, v); err != nil {
		return err
	}
	return volumes.Sync()
}

// makeVolume makes the directory under another name, which nobody enters before it has
// its limit.
func (p *Pool) makeVolume(ctx context.Context, volumes *os.File, name string, v backends.Volume) error {
	existing, err := openDir(volumes, name)
	if err == nil {
		return existing.Close()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir, err := makeDir(volumes, name+unfinished, 0o700)
	if err != nil {
		return err
	}
	defer dir.Close()
	if v.Size != 0 {
		if err := p.limiter.Limit(ctx, dir, path.Join(volumesDir, name+unfinished), v.Size); err != nil {
			return err
		}
	}
	if err := Own(dir, v); err != nil {
		return err
	}
	if err := dir.Sync(); err != nil {
		return err
	}
	return move(volumes, name+unfinished, volumes, name)
}

// Own sets the owner and mode of a volume's directory, those of root and 0755 where the
// plan says nothing. It returns ErrInvalid if the file system said that it did, and did
// not, as one may whose server knows other users.
func Own(dir *os.File, v backends.Volume) error {
	uid, gid, mode := or(v.UID, 0), or(v.GID, 0), or(v.Mode, DefaultMode)
	if err := dir.Chown(uid, gid); err != nil {
		return err
	}
	if err := dir.Chmod(mode); err != nil {
		return err
	}
	info, err := dir.Stat()
	if err != nil {
		return err
	}
	got := info.Sys().(*syscall.Stat_t)
	if int(got.Uid) != uid || int(got.Gid) != gid || info.Mode() != fs.ModeDir|mode {
		return fmt.Errorf("uid, gid, mode: the file system makes %d, %d and %v of %d, %d and %v: its server squashes users (export it with no_root_squash), or knows others: %w",
			got.Uid, got.Gid, info.Mode().Perm(), uid, gid, mode, backends.ErrInvalid)
	}
	return nil
}

func or[T any](value *T, otherwise T) T {
	if value == nil {
		return otherwise
	}
	return *value
}

// makeDir opens the directory name in parent, which it makes if it is missing,
// and sees to its mode.
func makeDir(parent *os.File, name string, mode fs.FileMode) (*os.File, error) {
	err := unix.Mkdirat(int(parent.Fd()), name, 0o700)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &os.PathError{Op: "mkdir", Path: parent.Name() + "/" + name, Err: err}
	}
	dir, err := openDir(parent, name)
	if err != nil {
		return nil, err
	}
	info, err := dir.Stat()
	if err == nil && info.Mode() != fs.ModeDir|mode {
		err = dir.Chmod(mode)
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

// move renames name in from. A file replaces a file, and a directory nothing but
// an empty directory, as rename(2) promises, so it does without
// RENAME_NOREPLACE, which not every file system has.
func move(from *os.File, name string, to *os.File, newName string) error {
	err := unix.Renameat(int(from.Fd()), name, int(to.Fd()), newName)
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from.Name() + "/" + name, New: to.Name() + "/" + newName, Err: err}
	}
	return nil
}
