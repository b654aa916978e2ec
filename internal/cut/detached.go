package cut

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/hang"
	"github.com/dvol/dvold/internal/host"
)

// detached settles whether f is in a target, if it can be sure of that, though its
// path can't tell, for no table that was read has its mount. That was made since;
// or it was taken away while f was in use, as the host's root directory is when a
// container begins.
//
// A protected process has such mounts for its own ends.
func (e *examination) detached(ctx context.Context, t thread, f file) (in, sure bool, err error) {
	if e.protected {
		return false, true, nil
	}
	device, err := t.dir.device(f.link)
	if vanished(err) {
		return false, false, err
	}
	if err != nil || !e.devices[device] { // what does not even say where it is can't be written to
		return false, true, nil
	}
	in, sure, err = e.located(ctx, t, f)
	slow := errors.Is(err, hang.ErrHangs)
	if err != nil && !slow || sure {
		return in, sure, err
	}
	if f.number != "" {
		d, err := t.dir.descriptor(f.number)
		if err != nil {
			return false, false, err
		}
		f.writes = d.flags&unix.O_PATH == 0
	}
	if !f.writes {
		return false, true, nil
	}
	if err := e.refresh(ctx); err != nil {
		return false, false, err
	}
	// Who can't be told from a writer counts as one, lest one is overlooked; but not yet
	// while the storage may still say.
	in, sure = e.inside(f)
	return in || !sure && !slow, sure || !slow, nil
}

// located is inside for a file whose path leads nowhere, by its file handle. It
// is an error if the process has the file no more, or the storage is slow: hang.ErrHangs.
func (e *examination) located(ctx context.Context, t thread, f file) (in, sure bool, err error) {
	sure = true
	var slow error
	for _, target := range e.targets {
		if target.over {
			continue
		}
		m, ok := e.above(target)
		if !ok {
			return false, false, nil
		}
		ctx, cancel := quickly(ctx)
		defer cancel()
		key := fmt.Sprintf("locate a file of process %d of %d", e.pid, e.start)
		namespace := e.spaces[m.space].file
		in, err := hang.Call(ctx, &e.c.calls, key, func() (bool, error) {
			path, err := pathBelow(namespace, m, t.dir, f.link)
			if errors.Is(err, errElsewhere) {
				return false, nil
			}
			below, ok := inFileSystem(path, m.Info)
			return ok && within(below, target.root), err
		}, nil)
		if in || errors.Is(err, errVanished) {
			return in, in, err
		}
		if errors.Is(err, hang.ErrHangs) {
			slow = err
		}
		sure = sure && err == nil
	}
	return false, sure, slow
}

// above returns a mount that shows all of a target, of our namespace if there
// is one.
func (l *look) above(t target) (best mount, ok bool) {
	for _, m := range l.mounts {
		if t.on(m.Info) && within(t.root, m.Root) && (!ok || l.spaces[m.space].file == nil) {
			best, ok = m, true
		}
	}
	return best, ok
}

var (
	errElsewhere = errors.New("not below the mount")
	errVanished  = fmt.Errorf("no such file any more: %w", fs.ErrNotExist)
)

// pathBelow returns the path, below m, of the file that a link in d leads to
// through another mount.
func pathBelow(namespace *os.File, m mount, d dir, link string) (string, error) {
	handle, _, err := unix.NameToHandleAt(int(d), link, unix.AT_SYMLINK_FOLLOW)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return "", errVanished
	}
	if err != nil {
		return "", os.NewSyscallError("name_to_handle_at", err)
	}
	root, err := host.MountRoot(namespace, m.Info)
	if err != nil {
		return "", err
	}
	defer root.Close()
	below, err := unix.Openat(int(root.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", os.NewSyscallError("openat", err)
	}
	defer unix.Close(below)
	fd, err := unix.OpenByHandleAt(below, handle, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return "", os.NewSyscallError("open_by_handle_at", err)
	}
	defer unix.Close(fd)
	path, err := os.Readlink(fmt.Sprintf("/proc/thread-self/fd/%d", fd))
	if path == "/" && m.Mountpoint != "/" { // so the kernel writes what is not below
		err = errElsewhere
	}
	return path, err
}
