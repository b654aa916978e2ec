package cut

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/hang"
	"github.com/dvol/dvold/internal/host"
)

// held is a file system that is to be synced.
type held struct {
	*os.File
	fuse bool
}

// hold opens the file systems that have to be synced, so that they can be once
// the volume is unmounted: what is opened keeps no mount that is in a table.
func (r *run) hold(ctx context.Context, l *look) error {
	for _, t := range r.targets {
		if t.provable() || r.held[t.device()].File != nil {
			continue
		}
		h, err := r.open(ctx, l, t)
		if err != nil {
			return err
		}
		if h.File != nil {
			r.held[t.device()] = h
			r.learn(h)
		}
	}
	return nil
}

// open opens a directory of the file system of t, through whatever mount. It
// returns none if nothing has to be synced: the file system is mounted nowhere,
// so that the kernel syncs it before the last who has something of it ends; or
// the process that serves it has ended or lost its storage, and has nothing
// under way.
func (r *run) open(ctx context.Context, l *look, t target) (held, error) {
	var failures []error
	for _, m := range l.mountsOn(t) {
		namespace := l.spaces[m.space].file
		f, err := hang.Call(ctx, &r.c.calls, "open "+t.String(), func() (*os.File, error) {
			return host.OpenDetached(namespace, m.Info)
		}, func(f *os.File) { f.Close() })
		if err == nil || isFUSE(m.FSType) && errors.Is(err, unix.ENOTCONN) {
			return held{f, isFUSE(m.FSType)}, nil
		}
		failures = append(failures, err)
		if errors.Is(err, hang.ErrHangs) {
			break
		}
	}
	return held{}, errors.Join(failures...)
}

// learn takes down how stat(2) names the file system, which for btrfs is not as
// the mount table does.
func (r *run) learn(h held) {
	var st unix.Statx_t
	if unix.Statx(int(h.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, 0, &st) == nil {
		r.devices[unix.Mkdev(st.Dev_major, st.Dev_minor)] = true
	}
}

// mountsOn returns the mounts of the file system of t, first those that show
// the target, and of our namespace.
func (l *look) mountsOn(t target) (found []mount) {
	for _, m := range l.mounts {
		if t.on(m.Info) {
			found = append(found, m)
		}
	}
	order := func(m mount) (int, string, int) {
		if t.shownBy(m.Info) {
			return 0, l.spaces[m.space].where, m.ID
		}
		return 1, l.spaces[m.space].where, m.ID
	}
	slices.SortFunc(found, func(a, b mount) int {
		shownA, whereA, idA := order(a)
		shownB, whereB, idB := order(b)
		return cmp.Or(cmp.Compare(shownA, shownB), cmp.Compare(whereA, whereB), cmp.Compare(idA, idB))
	})
	return found
}

// sync has the file systems of the targets write what is not written yet, but
// for those whose end will be proof enough. It waits for the storage.
//
// If the storage refuses, what was written is lost, and the kernel does not try
// to write it again: after such an error the next sync finds nothing left.
func (r *run) sync(ctx context.Context, l *look) error {
	if err := r.hold(ctx, l); err != nil {
		return err
	}
	for device, h := range r.held {
		if err := r.c.calls.Run(ctx, "sync file system "+device, h.sync); err != nil {
			return err
		}
		if err := r.letGo(ctx, device); err != nil {
			return err
		}
	}
	return nil
}

func (h held) sync() error {
	conn, err := h.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	// So that it stays open meanwhile, whoever closes it.
	err = conn.Control(func(fd uintptr) {
		result = os.NewSyscallError("syncfs", unix.Syncfs(int(fd)))
		if h.fuse && result == nil {
			// syncfs does not ask the process that serves it. Any answer will do.
			_ = unix.Fsync(int(fd))
		}
	})
	return errors.Join(err, result)
}

// holdQuickly is hold, for as long as a storage that is well takes. If it takes
// longer, unmounting does not wait for it.
func (r *run) holdQuickly(ctx context.Context, l *look) {
	ctx, cancel := quickly(ctx)
	defer cancel()
	if err := r.hold(ctx, l); err != nil {
		r.trouble = append(r.trouble, err)
	}
}

// letGo closes a file system that was held, which may be the end of it.
func (r *run) letGo(ctx context.Context, device string) error {
	h := r.held[device]
	delete(r.held, device)
	return r.c.calls.Run(ctx, fmt.Sprintf("close file system %s", device), h.Close)
}
