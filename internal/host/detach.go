package host

import (
	"errors"
	"os"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// ErrHidden means that the path of a mount leads into another one above it.
var ErrHidden = errors.New("mount is hidden below another")

// MountRoot opens the root of a mount of a mount namespace (nil is ours) for no
// other purpose than to point at it, and asks nothing of the file system. The
// error is ErrHidden if its path doesn't lead there.
func MountRoot(namespace *os.File, m *mountinfo.Info) (*os.File, error) {
	return inMount(namespace, m, func(root int) (int, error) { return root, nil })
}

// OpenDetached opens the root directory of a mount of a mount namespace (nil is
// ours) for reading, through a copy of the mount that is in no table: m can be
// unmounted meanwhile, and its file system stays until the file is closed. The
// error is ErrHidden if the path of m doesn't lead there. It may ask the
// storage, which may hang.
func OpenDetached(namespace *os.File, m *mountinfo.Info) (*os.File, error) {
	return inMount(namespace, m, func(root int) (int, error) {
		defer unix.Close(root)
		tree, err := unix.OpenTree(root, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return -1, os.NewSyscallError("open_tree", err)
		}
		defer unix.Close(tree)
		fd, err := unix.Openat(tree, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return fd, os.NewSyscallError("openat", err)
	})
}

// inMount calls open with a descriptor of the root of m, which it takes over.
func inMount(namespace *os.File, m *mountinfo.Info, open func(root int) (int, error)) (*os.File, error) {
	fd := -1
	err := InMountNamespace(namespace, func() error {
		how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS}
		root, err := unix.Openat2(unix.AT_FDCWD, m.Mountpoint, &how)
		if err != nil {
			return os.NewSyscallError("openat2", err)
		}
		var st unix.Statx_t
		err = unix.Statx(root, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID, &st)
		if err == nil && st.Mnt_id != uint64(m.ID) {
			err = ErrHidden
		}
		if err != nil {
			unix.Close(root)
			return os.NewSyscallError("statx", err)
		}
		fd, err = open(root)
		return err
	})
	if err != nil {
		return nil, &os.PathError{Op: "open mount", Path: m.Mountpoint, Err: err}
	}
	return os.NewFile(uintptr(fd), m.Mountpoint), nil
}
