package host

import (
	"errors"
	"fmt"
	"os"

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

	tree, err := unix.OpenTree(int(source.Fd()), "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	if readOnly {
		attr.Attr_set = unix.MOUNT_ATTR_RDONLY
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return os.NewSyscallError("mount_setattr", err)
	}
	err = unix.MoveMount(tree, "", int(point.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	return os.NewSyscallError("move_mount", err)
}
