package migrate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
)

// errDiffers means that a copy is not like the original.
var errDiffers = errors.New("the copy differs from the original")

// block is how much of two files is compared at once.
const block = 1 << 20

// verifier compares two trees: names, kinds, data, attributes, times, and
// which files are linked.
type verifier struct {
	links, back map[inode]inode // from the original to the copy, and back
	a, b        []byte
}

func (v *verifier) dir(ctx context.Context, from, to *os.File, rel string) error {
	if err := v.same(from, to, ".", rel); err != nil {
		return err
	}
	want, err := list(from, rel)
	if err != nil {
		return err
	}
	got, err := list(to, rel)
	if err != nil {
		return err
	}
	if !slices.Equal(want, got) {
		return fmt.Errorf("%s: other names in it: %w", rel, errDiffers)
	}
	for _, name := range want {
		if err := v.entry(ctx, from, to, name, path.Join(rel, name)); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) entry(ctx context.Context, from, to *os.File, name, rel string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstatat(int(from.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "stat", Path: rel, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR {
		if err := v.same(from, to, name, rel); err != nil {
			return err
		}
	}
	if kind != unix.S_IFDIR && kind != unix.S_IFREG {
		return nil
	}
	flags := unix.O_RDONLY | unix.O_NOATIME | unix.O_NONBLOCK
	original, err := host.OpenWithin(from, name, flags, 0)
	if err != nil {
		return err
	}
	defer original.Close()
	copied, err := host.OpenWithin(to, name, flags, 0)
	if err != nil {
		return err
	}
	defer copied.Close()
	if kind == unix.S_IFDIR {
		return v.dir(ctx, original, copied, rel)
	}
	if err := v.data(ctx, original, copied); err != nil {
		return fmt.Errorf("%s: %w", rel, err)
	}
	return nil
}

// same compares all but the data of two entries.
func (v *verifier) same(from, to *os.File, name, rel string) error {
	var a, b unix.Stat_t
	for _, s := range []struct {
		dir *os.File
		st  *unix.Stat_t
	}{{from, &a}, {to, &b}} {
		if err := unix.Fstatat(int(s.dir.Fd()), name, s.st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &os.PathError{Op: "stat", Path: rel, Err: err}
		}
	}
	isDir, isLink := a.Mode&unix.S_IFMT == unix.S_IFDIR, a.Mode&unix.S_IFMT == unix.S_IFLNK
	differs := ""
	switch {
	case a.Mode != b.Mode:
		differs = "kind or mode"
	case a.Uid != b.Uid || a.Gid != b.Gid:
		differs = "owner"
	case a.Rdev != b.Rdev:
		differs = "device number"
	case !isDir && a.Size != b.Size:
		differs = "size"
	case a.Mtim != b.Mtim && !isLink: // which NFS-Ganesha, for one, takes and forgets
		differs = "time"
	case !isDir && (a.Nlink > 1 || b.Nlink > 1) && !v.linked(inodeOf(&a), inodeOf(&b)):
		differs = "links"
	}
	if differs != "" {
		return fmt.Errorf("%s: another %s: %w", rel, differs, errDiffers)
	}
	if isLink {
		one, two := make([]byte, unix.PathMax), make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(int(from.Fd()), name, one)
		m, err2 := unix.Readlinkat(int(to.Fd()), name, two)
		if err := errors.Join(err, err2); err != nil {
			return &os.PathError{Op: "readlink", Path: rel, Err: err}
		}
		if !bytes.Equal(one[:n], two[:m]) {
			return fmt.Errorf("%s: another target: %w", rel, errDiffers)
		}
	}
	return sameXattrs(from, to, name, rel)
}

// linked notes that b is the copy of a, and tells whether each has no other
// partner.
func (v *verifier) linked(a, b inode) bool {
	to, known := v.links[a]
	from, taken := v.back[b]
	v.links[a], v.back[b] = b, a
	return known == taken && (!known || to == b && from == a)
}

// sameXattrs compares extended attributes, but for labels. The storage may give the copy some
// of its own: on NFS 4 the owner and mode in other words, which are compared already.
func sameXattrs(from, to *os.File, name, rel string) error {
	want, err := xattrs(from, name)
	if err != nil {
		return fmt.Errorf("%s: %w", rel, err)
	}
	got, err := xattrs(to, name)
	if err != nil {
		return fmt.Errorf("%s: %w", rel, err)
	}
	for a, value := range want {
		if other, ok := got[a]; (!ok || other != value) && !isLabel(a) {
			return fmt.Errorf("%s: another %s: %w", rel, a, errDiffers)
		}
	}
	for a := range got {
		if _, ok := want[a]; !ok && !isLabel(a) && !strings.HasPrefix(a, "system.nfs4_") {
			return fmt.Errorf("%s: %s, which the original lacks: %w", rel, a, errDiffers)
		}
	}
	return nil
}

// data compares two files of one size. The copy is read from the disk, not
// from memory, where the kernel can do so.
func (v *verifier) data(ctx context.Context, original, copied *os.File) error {
	if v.a == nil {
		v.a, v.b = make([]byte, block), make([]byte, block)
	}
	_ = unix.Fadvise(int(copied.Fd()), 0, 0, unix.FADV_DONTNEED) // a request at best
	for at := int64(0); ; at += block {
		if err := ctx.Err(); err != nil {
			return err
		}
		next, err := nextData(at, original, copied)
		if next < 0 || err != nil {
			return err
		}
		at = next
		n, err := original.ReadAt(v.a, at)
		m, err2 := copied.ReadAt(v.b, at)
		for _, err := range []error{err, err2} {
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
		if !bytes.Equal(v.a[:n], v.b[:m]) {
			return fmt.Errorf("other data at byte %d and after: %w", at, errDiffers)
		}
	}
}

// nextData returns the first offset from at on where one of the files has
// data, or -1.
func nextData(at int64, files ...*os.File) (int64, error) {
	next := int64(-1)
	for _, f := range files {
		data, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if next < 0 || data < next {
			next = data
		}
	}
	return next, nil
}

// fingerprint is the same as long as nothing in the tree is changed: whatever
// a write does, it leaves another change time. Reading leaves none.
func fingerprint(ctx context.Context, dir *os.File) (string, error) {
	h := sha256.New()
	if err := imprint(ctx, h, dir, "."); err != nil {
		return "", err
	}
	return string(h.Sum(nil)), nil
}

func imprint(ctx context.Context, h hash.Hash, dir *os.File, rel string) error {
	names, err := list(dir, rel)
	if err != nil {
		return err
	}
	for _, name := range append(names, ".") {
		if err := ctx.Err(); err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return &os.PathError{Op: "stat", Path: dir.Name() + "/" + name, Err: err}
		}
		fmt.Fprintf(h, "%q %d %d %o %d %v %v\n", name, st.Dev, st.Ino, st.Mode, st.Size, st.Mtim, st.Ctim)
		if name == "." || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue
		}
		below, err := host.OpenWithin(dir, name, readDir, 0)
		if err != nil {
			return err
		}
		err = imprint(ctx, h, below, path.Join(rel, name))
		below.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
