package migrate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/volumes"
)

// chunk bounds what is copied between two looks at ctx.
const chunk = 64 << 20

// transfer copies the tree from into the empty directory at dir, makes it
// durable, and compares the two. It returns ErrInUse if from was used or
// changed meanwhile.
func (m *Migrator) transfer(ctx context.Context, from *os.File, dir string) (Result, error) {
	before, err := fingerprint(ctx, from)
	if err != nil {
		return Result{}, fmt.Errorf("look at the original: %w", err)
	}
	copied, err := m.duplicate(ctx, from, dir)
	if err == nil {
		err = checkUnused(ctx, from)
	}
	switch changed := checkUnchanged(ctx, from, before); {
	case err == nil:
		err = changed
	case errors.Is(changed, volumes.ErrInUse): // which may be why
		err = fmt.Errorf("%w: %w", changed, err)
	}
	return copied, err
}

// checkUnchanged returns ErrInUse unless dir has the fingerprint still.
func checkUnchanged(ctx context.Context, dir *os.File, before string) error {
	after, err := fingerprint(ctx, dir)
	if err != nil {
		return fmt.Errorf("look at the original: %w", err)
	}
	if after != before {
		return fmt.Errorf("it was changed while it was copied: stop what writes to it: %w", volumes.ErrInUse)
	}
	return nil
}

// duplicate is transfer, but for the looks at the original.
func (m *Migrator) duplicate(ctx context.Context, from *os.File, dir string) (Result, error) {
	to, err := os.OpenFile(dir, readDir, 0)
	if err != nil {
		return Result{}, err
	}
	defer to.Close()
	c := copier{root: to, links: map[inode]string{}}
	fuse, err := isFUSE(to)
	if err != nil {
		return Result{}, err
	}
	if fuse {
		c.sync = (*os.File).Sync
	}
	if err := c.dir(ctx, from, to, "."); err != nil {
		return Result{}, fmt.Errorf("copy: %w", err)
	}
	if err := unix.Syncfs(int(to.Fd())); err != nil {
		return Result{}, fmt.Errorf("sync the copy: %w", err)
	}
	m.step("copy: copied")
	v := verifier{links: map[inode]inode{}, back: map[inode]inode{}}
	if err := v.dir(ctx, from, to, "."); err != nil {
		return Result{}, fmt.Errorf("compare the copy: %w", err)
	}
	m.step("copy: compared")
	return Result{Files: c.files, Bytes: c.bytes}, nil
}

// inode tells a file from all others.
type inode struct{ dev, ino uint64 }

func inodeOf(st *unix.Stat_t) inode { return inode{st.Dev, st.Ino} }

// copier copies a tree. Files that are linked in it are linked in the copy.
type copier struct {
	root  *os.File             // of the copy
	links map[inode]string     // first copy of each file with several links, below root
	sync  func(*os.File) error // makes a file durable that has all it gets; nil where syncfs(2) is enough
	files int64
	bytes int64
}

// isFUSE tells file systems to whose server syncfs(2) passes nothing on.
func isFUSE(f *os.File) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return false, os.NewSyscallError("fstatfs", err)
	}
	return st.Type == unix.FUSE_SUPER_MAGIC, nil
}

// dir copies what is in from, then what from itself is: a default ACL of the
// copy would be handed on to what is made in it.
func (c *copier) dir(ctx context.Context, from, to *os.File, rel string) error {
	names, err := list(from, rel)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.entry(ctx, from, to, name, path.Join(rel, name)); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(from.Fd()), &st); err != nil {
		return &os.PathError{Op: "stat", Path: rel, Err: err}
	}
	if err := copyAttributes(from, to, ".", &st); err != nil {
		return fmt.Errorf("%s: %w", rel, err)
	}
	c.files++
	if c.sync != nil {
		return c.sync(to)
	}
	return nil
}

func (c *copier) entry(ctx context.Context, from, to *os.File, name, rel string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(from.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "stat", Path: rel, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		return c.subdir(ctx, from, to, name, rel)
	}
	if first, ok := c.links[inodeOf(&st)]; ok {
		if err := unix.Linkat(int(c.root.Fd()), first, int(to.Fd()), name, 0); err != nil {
			return &os.LinkError{Op: "link", Old: first, New: rel, Err: err}
		}
		return nil
	}
	var err error
	switch kind {
	case unix.S_IFREG:
		err = c.file(ctx, from, to, name, &st)
	case unix.S_IFLNK:
		err = copySymlink(from, to, name)
	default: // devices, pipes and sockets
		err = unix.Mknodat(int(to.Fd()), name, kind|0o600, int(st.Rdev))
	}
	if err == nil && kind != unix.S_IFREG {
		err = copyAttributes(from, to, name, &st)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", rel, err)
	}
	c.files++
	if st.Nlink > 1 {
		c.links[inodeOf(&st)] = rel
	}
	return nil
}

func (c *copier) subdir(ctx context.Context, from, to *os.File, name, rel string) error {
	below, err := host.OpenWithin(from, name, readDir, 0)
	if err != nil {
		return err
	}
	defer below.Close()
	if err := unix.Mkdirat(int(to.Fd()), name, 0o700); err != nil {
		return &os.PathError{Op: "mkdir", Path: rel, Err: err}
	}
	made, err := host.OpenWithin(to, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer made.Close()
	return c.dir(ctx, below, made, rel)
}

func copySymlink(from, to *os.File, name string) error {
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(from.Fd()), name, target)
	if err != nil {
		return os.NewSyscallError("readlink", err)
	}
	return os.NewSyscallError("symlink", unix.Symlinkat(string(target[:n]), int(to.Fd()), name))
}

// file copies a regular file, which st describes, and leaves its holes out.
func (c *copier) file(ctx context.Context, from, to *os.File, name string, st *unix.Stat_t) error {
	in, err := host.OpenWithin(from, name, unix.O_RDONLY|unix.O_NOATIME|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := host.OpenWithin(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	for at := int64(0); at < st.Size; {
		data, err := in.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err != nil {
			return err
		}
		hole, err := in.Seek(data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if at, err = c.piece(ctx, in, out, data, min(hole, st.Size, data+chunk)); err != nil {
			return err
		}
	}
	if err := out.Truncate(st.Size); err != nil {
		return err
	}
	if err := copyAttributes(from, to, name, st); err != nil {
		return err
	}
	if c.sync != nil {
		if err := c.sync(out); err != nil {
			return err
		}
	}
	return out.Close()
}

// piece copies what lies between two offsets and returns the second.
func (c *copier) piece(ctx context.Context, in, out *os.File, begin, end int64) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if _, err := in.Seek(begin, io.SeekStart); err != nil {
		return 0, err
	}
	if _, err := out.Seek(begin, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := io.CopyN(out, in, end-begin)
	c.bytes += n
	return end, err
}
