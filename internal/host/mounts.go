package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Mounts returns the mount table of this process. Like all that reads it, it
// touches none of the file systems listed, dead ones included.
func Mounts() ([]*mountinfo.Info, error) {
	text, err := readTable(ownTable)
	if err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	mounts, err := text.mounts("")
	if err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	return mounts, nil
}

// MountedAt returns the mount at target, the topmost if several are stacked
// there, or nil if target is not a mountpoint.
func MountedAt(target string) (*mountinfo.Info, error) {
	text, err := readTable(ownTable)
	if err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	mounts, err := text.at(filepath.Clean(target))
	if err != nil {
		return nil, fmt.Errorf("read mount table: %w", err)
	}
	if len(mounts) == 0 {
		return nil, nil
	}
	return mounts[len(mounts)-1], nil
}

// IsMountpoint tells whether something is mounted at target, without a look
// into what it is: it may be dead, and a mount table long. One that is missing
// is no mountpoint.
func IsMountpoint(target string) (bool, error) {
	target = filepath.Clean(target)
	parent, err := openPlain(filepath.Dir(target))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer parent.Close()
	// The way ends with EXDEV where it would enter the mount: openat2(2).
	f, err := openat2(parent, filepath.Base(target), unix.O_PATH|unix.O_NOFOLLOW, 0, unix.RESOLVE_NO_XDEV)
	switch {
	case err == nil:
		return false, f.Close()
	case errors.Is(err, unix.EXDEV):
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, err
}

// MountsBelow returns the mounts at dir or beneath it.
func MountsBelow(dir string) ([]*mountinfo.Info, error) {
	dir = filepath.Clean(dir)
	return mountsWhere(func(m *mountinfo.Info) bool { return within(m.Mountpoint, dir) })
}

// MountsOf returns the mounts that show the directory which source shows, or
// one beneath it, wherever they are: see [Source].
func MountsOf(source *mountinfo.Info) ([]*mountinfo.Info, error) {
	return mountsWhere(func(m *mountinfo.Info) bool { return shows(m, source) })
}

// Source returns the mount that f was opened through as it would be if just
// f were mounted: Root is the place of f in its file system and Mountpoint its
// path.
func Source(f *os.File) (*mountinfo.Info, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID|unix.STATX_NLINK, &st); err != nil {
		return nil, &os.PathError{Op: "statx", Path: f.Name(), Err: err}
	}
	if st.Nlink == 0 {
		return nil, &os.PathError{Op: "locate", Path: f.Name(), Err: os.ErrNotExist}
	}
	path, err := os.Readlink("/proc/thread-self/fd/" + strconv.Itoa(int(f.Fd())))
	if err != nil {
		return nil, err
	}
	found, err := mountsWhere(func(m *mountinfo.Info) bool { return uint64(m.ID) == st.Mnt_id })
	if err != nil {
		return nil, err
	}
	if len(found) != 1 || !within(path, found[0].Mountpoint) {
		return nil, fmt.Errorf("locate %s: not in the mount table", path)
	}
	source := *found[0]
	source.Root = filepath.Join(source.Root, strings.TrimPrefix(path, source.Mountpoint))
	source.Mountpoint = path
	return &source, nil
}

// IsMountRoot tells whether f is the topmost directory of a mount.
func IsMountRoot(f *os.File) (bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, 0, &st); err != nil {
		return false, &os.PathError{Op: "statx", Path: f.Name(), Err: err}
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

func mountsWhere(match func(*mountinfo.Info) bool) ([]*mountinfo.Info, error) {
	mounts, err := Mounts()
	if err != nil {
		return nil, err
	}
	var found []*mountinfo.Info
	for _, m := range mounts {
		if match(m) {
			found = append(found, m)
		}
	}
	return found, nil
}

// shows tells whether m shows the directory of source or one beneath it.
func shows(m, source *mountinfo.Info) bool {
	return m.Major == source.Major && m.Minor == source.Minor && within(m.Root, source.Root)
}

// within tells whether path is dir or lies beneath it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// IsReadOnly tells whether a mount, not its file system, is read-only.
func IsReadOnly(m *mountinfo.Info) bool { return HasOption(m.Options, "ro") }

// HasOption tells whether an option is one of a list that commas separate, as mount tables
// have it.
func HasOption(options, option string) bool {
	return slices.Contains(strings.Split(options, ","), option)
}
