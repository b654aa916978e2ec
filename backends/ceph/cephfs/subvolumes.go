package cephfs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/internal/host"
)

// subvolumes keeps volumes as sub-volumes of a group, whose directory a client has
// mounted at root. In that lie
//
//	<name>          a sub-volume, as the manager's module "volumes" makes it
//	<name>/.meta    what the module has written down of it
//	<name>/<UUID>   its data, which is the volume
//	.dvol           the descriptions and stamps that package local keeps
//
// A handle is the name of a sub-volume, which dvold made exactly if it ends as an ID
// does. The manager makes and deletes sub-volumes, and sets their size, which so needs no
// flag in the caps of a host, and no process in a container can undo. All else is asked of
// the file system alone: volumes are mounted without the manager.
type subvolumes struct {
	*local.Pool             // of .dvol
	group       *local.Pool // the directory of the group: the data of a sub-volume is to it what was adopted
	name        string      // of the group
	path        string      // its path in the file system
	root        string      // where that is mounted
	manager     *manager
}

// recordsDir is the directory of a group in which dvold keeps what is its own. To the
// manager it is a sub-volume, of the kind that is a directory and nothing else.
const recordsDir = ".dvol"

// makeRecords makes that directory, if it is missing, in a group that is mounted at root.
func makeRecords(root string) error {
	dir, err := local.OpenMounted(root)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Mkdirat(int(dir.Fd()), recordsDir, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return &os.PathError{Op: "mkdir", Path: filepath.Join(root, recordsDir), Err: err}
	}
	return nil
}

var (
	// What the manager takes for a name.
	subvolumePattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,255}$`)
	madePattern      = regexp.MustCompile(`\.[0-9a-f]{12}$`)
)

// isMade tells whether a handle is that of a sub-volume that dvold makes.
func isMade(handle string) bool { return madePattern.MatchString(handle) }

// checkName returns ErrInvalid for what is no name of a sub-volume that can be a volume.
func checkName(name string) error {
	if !subvolumePattern.MatchString(name) || name == "." || name == ".." || name == recordsDir {
		return fmt.Errorf("%q is not the name of a sub-volume: %w", name, backends.ErrInvalid)
	}
	return nil
}

// Plan checks a request. The only options are those which all backends have.
func (s *subvolumes) Plan(ctx context.Context, r backends.Request) (backends.Volume, error) {
	v, err := s.plan(ctx, r)
	return v, wrap("plan", r.ID, err)
}

func (s *subvolumes) plan(ctx context.Context, r backends.Request) (v backends.Volume, err error) {
	if err := cmp.Or(ctx.Err(), local.CheckRequest(r)); err != nil {
		return v, err
	}
	if r.Adopt != "" {
		return s.planAdoption(ctx, r)
	}
	if err := checkName(r.ID); err != nil || !isMade(r.ID) {
		return v, cmp.Or(err, fmt.Errorf("%q does not end as the ID of a volume: %w", r.ID, backends.ErrInvalid))
	}
	// The manager keeps who may use a sub-volume in a file of that name.
	if over := len("_" + s.name + ":" + r.ID + ".meta"); over > 255 {
		return v, fmt.Errorf("the volume's name is %d bytes too long for a sub-volume of group %s: choose a shorter one, or another pool: %w", over-255, s.name, backends.ErrInvalid)
	}
	return backends.Volume{Handle: r.ID, Size: r.Size, UID: r.UID, GID: r.GID, Mode: r.Mode}, nil
}

func (s *subvolumes) planAdoption(ctx context.Context, r backends.Request) (v backends.Volume, err error) {
	if err := checkName(r.Adopt); err != nil {
		return v, fmt.Errorf("adopt: %w", err)
	}
	if isMade(r.Adopt) {
		return v, fmt.Errorf("adopt: dvold itself makes sub-volumes with names as %s: if its record was lost, see dvold pool scan: %w", r.Adopt, backends.ErrInvalid)
	}
	name := r.Adopt
	r.Adopt, err = s.data(ctx, name)
	if err == nil {
		v, err = s.group.Plan(ctx, r)
	}
	v.Handle = name
	return v, err
}

// data returns where the data of a volume lies, relative to the group.
func (s *subvolumes) data(ctx context.Context, handle string) (string, error) {
	f, err := s.find(ctx, handle)
	if err != nil {
		return "", err
	}
	defer f.close()
	return filepath.Join(handle, f.uuid), nil
}

// find returns a volume that is complete, or ErrNotFound.
func (s *subvolumes) find(ctx context.Context, handle string) (*subvolume, error) {
	f, err := s.look(ctx, handle)
	if err != nil {
		return nil, err
	}
	if err = f.check(isMade(handle)); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// look returns what there is of a volume, or ErrNotFound.
func (s *subvolumes) look(ctx context.Context, handle string) (*subvolume, error) {
	if err := cmp.Or(ctx.Err(), checkName(handle)); err != nil {
		return nil, err
	}
	root, err := local.OpenMounted(s.root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	dir, err := host.OpenWithin(root, handle, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", err, backends.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	f, err := inspect(dir, filepath.Join(s.path, handle))
	if err != nil {
		dir.Close()
	}
	return f, err
}

// Stat describes a volume.
func (s *subvolumes) Stat(ctx context.Context, handle string) (backends.Info, error) {
	data, err := s.data(ctx, handle)
	if err != nil {
		return backends.Info{}, wrap("stat", handle, err)
	}
	return s.group.Stat(ctx, data)
}

// Mount makes the data of a volume appear at target.
func (s *subvolumes) Mount(ctx context.Context, handle, target string, o backends.MountOptions) error {
	data, err := s.data(ctx, handle)
	if err != nil {
		return wrap("mount", handle, err)
	}
	return s.group.Mount(ctx, data, target, o)
}

// Resize has the manager change what a volume may hold.
func (s *subvolumes) Resize(ctx context.Context, handle string, size int64) error {
	return wrap("resize", handle, s.resize(ctx, handle, size))
}

func (s *subvolumes) resize(ctx context.Context, handle string, size int64) error {
	if err := backends.CheckResize(size, 0); err != nil {
		return err
	}
	data, err := s.data(ctx, handle)
	if err != nil {
		return err
	}
	if !isMade(handle) {
		return fmt.Errorf("size: what was adopted cannot get one: %w", backends.ErrInvalid)
	}
	info, err := s.group.Stat(ctx, data)
	if err != nil {
		return err
	}
	if err := backends.CheckResize(size, info.Used); err != nil {
		return err
	}
	return s.manager.resize(ctx, handle, size)
}
