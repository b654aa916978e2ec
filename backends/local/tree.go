package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// maxDepth is how many directories are held open at once. What lies deeper is
// moved up, so that no tree, however deep a container made it, exhausts the
// file descriptors.
const maxDepth = 64

// batch is how many names are read at once.
const batch = 1000

// removeTree deletes the directory name in parent with all that is in it. It
// follows no symbolic link and enters no other mount; one in the tree is
// ErrInUse. It is no error if the directory is missing.
func removeTree(ctx context.Context, parent *os.File, name string) error {
	top, err := enter(parent, name)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer top.Close()
	t := tree{top: top}
	if err := t.empty(ctx, top, 1); err != nil {
		return err
	}
	return unlink(parent, name, unix.AT_REMOVEDIR)
}

// tree is a directory tree being deleted.
type tree struct {
	top   *os.File
	moved int // directories moved up to top so far
}

// empty deletes all that is in dir.
func (t *tree) empty(ctx context.Context, dir *os.File, depth int) error {
	for {
		// From the start again, because what is moved up may appear anywhere.
		if _, err := dir.Seek(0, io.SeekStart); err != nil {
			return err
		}
		names, err := dir.Readdirnames(batch)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := t.remove(ctx, dir, name, depth); err != nil {
				return err
			}
		}
	}
}

// remove deletes the entry name of dir, or moves it up.
func (t *tree) remove(ctx context.Context, dir *os.File, name string, depth int) error {
	err := unlink(dir, name, 0)
	if !errors.Is(err, unix.EISDIR) {
		return err
	}
	if depth >= maxDepth {
		return t.moveUp(dir, name)
	}
	child, err := enter(dir, name)
	if err != nil {
		return err
	}
	defer child.Close()
	if err := t.empty(ctx, child, depth+1); err != nil {
		return err
	}
	return unlink(dir, name, unix.AT_REMOVEDIR)
}

// enter opens the directory name of dir, unless it is a mountpoint.
func enter(dir *os.File, name string) (*os.File, error) {
	child, err := host.OpenWithin(dir, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.EXDEV) {
		return nil, fmt.Errorf("something is mounted at %s/%s: %w", dir.Name(), name, backends.ErrInUse)
	}
	return child, err
}

// moveUp moves the directory name of dir to the top of the tree. Where that passes its project
// on, nothing of another can be moved there, as what a container has taken out of it: that gets
// the project of the top, too.
func (t *tree) moveUp(dir *os.File, name string) error {
	adopted := false
	for {
		t.moved++
		err := move(dir, name, t.top, "moved."+strconv.Itoa(t.moved))
		switch {
		case errors.Is(err, unix.EXDEV) && !adopted:
			if err := t.adopt(dir, name); err != nil {
				return err
			}
			adopted = true
		case !isAny(err, unix.ENOTEMPTY, unix.EEXIST, unix.ENOTDIR): // else the name is taken
			return err
		}
	}
}

// adopt has the directory name of dir carry the project of the top.
func (t *tree) adopt(dir *os.File, name string) error {
	project, err := host.ProjectOf(t.top)
	if err != nil {
		return err
	}
	child, err := enter(dir, name)
	if err != nil {
		return err
	}
	defer child.Close()
	return host.SetProject(child, project.ID)
}

// unlink removes the entry name of dir; one that is missing is no error.
func unlink(dir *os.File, name string, flags int) error {
	err := unix.Unlinkat(int(dir.Fd()), name, flags)
	if err == nil || missing(err, dir, name) {
		return nil
	}
	return &os.PathError{Op: "remove", Path: dir.Name() + "/" + name, Err: err}
}

// missing tells whether err, of a change of that name, says that dir has none. A file
// system that is read-only says EROFS before it looks.
func missing(err error, dir *os.File, name string) bool {
	if errors.Is(err, unix.EROFS) {
		there, err := exists(dir, name)
		return !there && err == nil
	}
	return errors.Is(err, unix.ENOENT)
}

func exists(dir *os.File, name string) (bool, error) {
	var st unix.Stat_t
	err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "stat", Path: dir.Name() + "/" + name, Err: err}
	}
	return true, nil
}
