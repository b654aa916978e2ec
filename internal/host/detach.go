package host

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// ErrHidden means that the path of a mount leads into another one above it.
var ErrHidden = errors.New("mount is hidden below another")

// MountRoot opens the root of a mount of a mount namespace (nil is ours) for no
// other purpose than to point at it, and asks nothing of the file system. The
// error is ErrHidden if its path doesn't lead there.
func MountRoot(namespace *os.File, m *mountinfo.Info) (*os.File, error) {
	f, err := mountRoot(namespace, m)
	if err != nil {
		return nil, &os.PathError{Op: "open mount", Path: m.Mountpoint, Err: err}
	}
	return f, nil
}

func mountRoot(namespace *os.File, m *mountinfo.Info) (*os.File, error) {
	var fd int
	err := InMountNamespace(namespace, func() (err error) {
		how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS}
		fd, err = unix.Openat2(unix.AT_FDCWD, m.Mountpoint, &how)
		return os.NewSyscallError("openat2", err)
	})
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), m.Mountpoint)
	id, err := MountID(f)
	if err == nil && id != m.ID {
		err = ErrHidden
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// MountID returns the number of the mount that f was opened through, without
// asking the file system.
func MountID(f *os.File) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/thread-self/fdinfo/%d", f.Fd()))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text) {
		if number, ok := bytes.CutPrefix(line, []byte("mnt_id:")); ok {
			return strconv.Atoi(string(bytes.TrimSpace(number)))
		}
	}
	return 0, fmt.Errorf("no mount in the description of %s", f.Name())
}

// OpenDetached opens the root directory of a mount of a mount namespace (nil is
// ours) for reading, through a copy of the mount that is in no table: m can be
// unmounted meanwhile, and its file system stays until the file is closed. The
// error is ErrHidden if the path of m doesn't lead there. It may ask the
// storage, which may hang.
func OpenDetached(namespace *os.File, m *mountinfo.Info) (*os.File, error) {
	f, err := openDetached(namespace, m)
	if err != nil {
		return nil, &os.PathError{Op: "open mount", Path: m.Mountpoint, Err: err}
	}
	return f, nil
}

func openDetached(namespace *os.File, m *mountinfo.Info) (*os.File, error) {
	tree, err := cloneMount(namespace, m)
	if err != nil {
		return nil, err
	}
	defer unix.Close(tree)
	fd, err := unix.Openat(tree, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("openat", err)
	}
	return os.NewFile(uintptr(fd), m.Mountpoint), nil
}

// cloneMount returns a copy of m that is in no table. What may hang later does
// not keep m busy.
func cloneMount(namespace *os.File, m *mountinfo.Info) (tree int, err error) {
	root, err := mountRoot(namespace, m)
	if err != nil {
		return -1, err
	}
	defer root.Close()
	err = InMountNamespace(namespace, func() (err error) {
		tree, err = unix.OpenTree(int(root.Fd()), "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		return os.NewSyscallError("open_tree", err)
	})
	return tree, err
}
