package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Unmount takes away whatever is mounted at target, all of it if several
// mounts are stacked there, neither lazily nor by force, and makes sure in the
// mount table that nothing is left. It is no error if nothing is mounted there
// or target is missing. If a process uses the mount it returns ErrBusy.
//
// It asks nothing of a file system that is mounted elsewhere, too. One of which
// this was the last mount has to write first what is not written yet.
func Unmount(target string) error {
	if err := unmount(filepath.Clean(target)); err != nil {
		return fmt.Errorf("unmount %s: %w", target, err)
	}
	return nil
}

func unmount(target string) error {
	// Behind a symbolic link the mount table would seem to have no mount.
	parent, err := openPlain(filepath.Dir(target))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	parent.Close()

	for {
		err := unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
		switch {
		case err == nil: // and now what was below it
			continue
		case errors.Is(err, unix.EBUSY):
			return ErrBusy
		case !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT):
			return os.NewSyscallError("umount2", err)
		}
		m, err := MountedAt(target)
		if err == nil && m != nil {
			err = errors.New("still in the mount table, hidden below another mount")
		}
		return err
	}
}

// soonTime is how long what is being let go may keep a mount busy.
const soonTime = 5 * time.Second

// UnmountSoon is Unmount of what nobody uses but this process, and who is about to let go:
// it returns ErrBusy only if that is so for five seconds, or when ctx ends. A program that is
// being started has all that this process has open until execve(2), and who serves a file
// system may look at it, too.
func UnmountSoon(ctx context.Context, target string) error {
	limit := time.Now().Add(soonTime)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := Unmount(target)
		if !errors.Is(err, ErrBusy) || time.Now().After(limit) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// ClearMountpoint takes away what is mounted at target, by UnmountSoon, and target, by
// RemoveMountpoint.
func ClearMountpoint(ctx context.Context, target string) error {
	if err := UnmountSoon(ctx, target); err != nil {
		return err
	}
	return RemoveMountpoint(target)
}

// RemoveMountpoint removes the empty directory target after the kernel said
// that nothing is mounted there. One that is missing is no error. It is an error if something is
// mounted there, which is ErrBusy, or if target is not an empty directory.
func RemoveMountpoint(target string) error {
	mounted, err := IsMountpoint(target)
	if err != nil {
		return err
	}
	if mounted {
		return fmt.Errorf("remove mountpoint %s: %w", target, ErrBusy)
	}
	err = unix.Rmdir(target)
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.ENOTEMPTY):
		return fmt.Errorf("remove mountpoint %s: what is in it was written while nothing was mounted there, move it away: %w", target, err)
	}
	return &os.PathError{Op: "remove mountpoint", Path: target, Err: err}
}
