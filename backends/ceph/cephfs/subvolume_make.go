package cephfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
)

// Create has the manager make a planned volume, and finishes it: until then it does not
// exist to others. A call that was cut short is gone on with by the next.
func (s *subvolumes) Create(ctx context.Context, v backends.Volume) error {
	return wrap("create", v.Handle, s.create(ctx, v))
}

func (s *subvolumes) create(ctx context.Context, v backends.Volume) error {
	if isMade(v.Handle) == v.Adopted {
		return fmt.Errorf("%q is not the handle of such a volume: %w", v.Handle, backends.ErrInvalid)
	}
	f, err := s.look(ctx, v.Handle)
	if err == nil {
		defer func() { f.close() }()
	}
	switch {
	case errors.Is(err, backends.ErrNotFound) && !v.Adopted:
	case err != nil:
		return err
	case v.Adopted, f.done:
		return f.check(!v.Adopted)
	case errors.Is(f.why, errUnfinished):
		// What it left, the manager would take for one of the old kind next time.
		if err := f.checkEmpty(); err != nil {
			return err
		}
		if err := s.manager.remove(ctx, v.Handle); err != nil {
			return err
		}
	default:
		return s.finish(ctx, f, v)
	}
	mode := local.DefaultMode
	if v.Mode != nil {
		mode = *v.Mode
	}
	if err := s.manager.create(ctx, v.Handle, v.Size, mode); err != nil {
		return err
	}
	made, err := s.look(ctx, v.Handle)
	if errors.Is(err, backends.ErrNotFound) {
		err = fmt.Errorf("the manager says that it has made sub-volume %s, and it is not there: %v: %w", v.Handle, err, backends.ErrUnavailable)
	}
	if err != nil {
		return err
	}
	defer made.close()
	return s.finish(ctx, made, v)
}

// finish gives a sub-volume that nobody has used the size, owner and mode of the plan, and
// then says that it is one of dvold's.
func (s *subvolumes) finish(ctx context.Context, f *subvolume, v backends.Volume) error {
	if err := f.checkEmpty(); err != nil {
		return err
	}
	data, err := f.openData()
	if err != nil {
		return err
	}
	defer data.Close()
	size, err := attribute(data, limitAttr)
	if err == nil && size != v.Size {
		err = s.manager.resize(ctx, v.Handle, v.Size)
	}
	if err != nil {
		return err
	}
	if err := cmp.Or(local.Own(data, v), data.Sync(), f.dir.Chmod(0o711)); err != nil {
		return err
	}
	if err := unix.Fsetxattr(int(f.dir.Fd()), madeAttr, []byte("1"), 0); err != nil {
		return &os.PathError{Op: "setxattr " + madeAttr, Path: f.dir.Name(), Err: err}
	}
	return f.dir.Sync()
}

// Remove has the manager delete a volume: it is in its trash then, whose contents go by
// and by. One with snapshots stays.
func (s *subvolumes) Remove(ctx context.Context, handle string) error {
	return wrap("remove", handle, s.remove(ctx, handle))
}

func (s *subvolumes) remove(ctx context.Context, handle string) error {
	if err := checkName(handle); err != nil {
		return err
	}
	if !isMade(handle) {
		return fmt.Errorf("it was adopted, and adopted data is never deleted: %w", backends.ErrInvalid)
	}
	root, err := local.OpenMounted(s.root)
	if err != nil {
		return err
	}
	err = local.CheckUnused(root, handle)
	root.Close()
	if err != nil {
		return err
	}
	f, err := s.look(ctx, handle)
	if err == nil {
		if !f.done {
			err = f.checkEmpty()
		}
		f.close()
	}
	if err != nil && !errors.Is(err, backends.ErrNotFound) {
		return err
	}
	// Also if there is none: the manager may still have before it what a Create asked for
	// that got no answer.
	if err := s.manager.remove(ctx, handle); err != nil {
		return err
	}
	f, err = s.look(ctx, handle)
	switch {
	case errors.Is(err, backends.ErrNotFound):
		return nil
	case err == nil:
		f.close()
		err = fmt.Errorf("the manager says that there is no sub-volume %s, and it is there: %w", handle, backends.ErrUnavailable)
	}
	return err
}
