package host

import (
	"errors"
	"fmt"
	"os"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// BindMount makes the directory that source is open on appear at target. What
// its path leads to meanwhile does not matter, and what is mounted in either
// place later does not show up in the other. Mounts below source are left out.
//
// Where target lies below a shared mount, the new mount is passed on to the
// peers of that, and Unmount takes it back from them.
//
// It is an error if target is a mountpoint, or reached through a symbolic
// link. After an error target is as it was.
func BindMount(source *os.File, target string, readOnly bool) error {
	if err := bindMount(source, target, readOnly); err != nil {
		if errors.Is(err, unix.ENOSYS) {
			return fmt.Errorf("bind %s to %s: dvold needs Linux 5.12 or later: %w", source.Name(), target, err)
		}
		return fmt.Errorf("bind %s to %s: %w", source.Name(), target, err)
	}
	return nil
}

func bindMount(source *os.File, target string, readOnly bool) error {
	point, err := openPlain(target)
	if err != nil {
		return err
	}
	defer point.Close()
	mounted, err := IsMountRoot(point)
	if err != nil {
		return err
	}
	if mounted {
		return fmt.Errorf("%s is already a mountpoint", target)
	}

	tree, err := detachedCopy(source, readOnly)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	err = unix.MoveMount(tree, "", int(point.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	return os.NewSyscallError("move_mount", err)
}

// BindOver makes the directory that source is open on appear over the mount m of
// another mount namespace, for whoever opens paths there from then on. What is
// open stays what it was. The error is ErrHidden if the path of m doesn't lead
// to it, as when something lies over it already.
func BindOver(source *os.File, namespace *os.File, m *mountinfo.Info, readOnly bool) error {
	if err := bindOver(source, namespace, m, readOnly); err != nil {
		return fmt.Errorf("bind %s over %s: %w", source.Name(), m.Mountpoint, err)
	}
	return nil
}

func bindOver(source *os.File, namespace *os.File, m *mountinfo.Info, readOnly bool) error {
	tree, err := detachedCopy(source, readOnly)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	point, err := MountRoot(namespace, m)
	if err != nil {
		return err
	}
	defer point.Close()
	return InMountNamespace(namespace, func() error {
		err := unix.MoveMount(tree, "", int(point.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
		return os.NewSyscallError("move_mount", err)
	})
}

// detachedCopy returns a mount, in no table, of the directory that source is open
// on.
func detachedCopy(source *os.File, readOnly bool) (int, error) {
	tree, err := unix.OpenTree(int(source.Fd()), "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("open_tree", err)
	}
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if readOnly {
		attr.Attr_set = unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(tree)
		return -1, os.NewSyscallError("mount_setattr", err)
	}
	return tree, nil
}
