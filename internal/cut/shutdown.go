package cut

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/hang"
	"github.com/dvol/dvold/internal/host"
)

// shutDown ends file systems that are mounted for the volume alone, as if the
// power were cut: nothing is written to them any more, whoever has them and
// whatever was written before. One that can't be ended so is synced later.
//
// It does not wait long: a storage that hangs must not keep anybody from being
// killed.
func (r *run) shutDown(ctx context.Context, l *look) error {
	var failures []error
	for _, t := range r.targets {
		mounts := l.mountsOn(t)
		if t.sole && !r.shut[t.device()] && len(mounts) > 0 {
			done, err := r.shutDownOne(ctx, l, t, mounts)
			if err != nil {
				failures = append(failures, fmt.Errorf("shut down %v: %w", t, err))
			}
			if done {
				r.shut[t.device()] = true
				r.note(func(report *Report) { report.ShutDown = append(report.ShutDown, t.device()) })
				r.log.Info("file system was shut down", "volume", r.v.ID, "device", t.device(), "type", mounts[0].FSType)
			}
		}
		if err := r.endBehind(ctx, t); err != nil {
			failures = append(failures, fmt.Errorf("end what is behind %v: %w", t, err))
		}
	}
	return oneLine(failures)
}

func (r *run) shutDownOne(ctx context.Context, l *look, t target, mounts []mount) (done bool, err error) {
	key := "shut down " + t.String()
	switch kind := mounts[0].FSType; {
	case isFUSE(kind) && t.major == 0:
		err := r.abort(ctx, key, t.minor)
		return err == nil, err
	case kind == "ext4" || kind == "xfs":
		ctx, cancel := quickly(ctx)
		defer cancel()
		for _, m := range mounts {
			namespace := l.spaces[m.space].file
			err = r.c.calls.Run(ctx, key, func() error { return shutDownDisk(ctx, namespace, m) })
			if err == nil || errors.Is(err, hang.ErrHangs) {
				return err == nil, err
			}
		}
	}
	return false, err
}

// The ioctl FS_IOC_SHUTDOWN of linux/fs.h, which XFS calls XFS_IOC_GOINGDOWN,
// and its argument.
const (
	goDown     = 0x8004587d
	noLogFlush = 2 // what is not in the journal yet is lost
)

// shutDownDisk shuts down the file system of m, unless ctx has ended by then:
// nobody may want that any more.
func shutDownDisk(ctx context.Context, namespace *os.File, m mount) error {
	f, err := host.OpenDetached(namespace, m.Info)
	if err != nil {
		return err
	}
	defer f.Close()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	flags := uint32(noLogFlush)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), goDown, uintptr(unsafe.Pointer(&flags)))
	runtime.KeepAlive(f)
	if errno != 0 && errno != unix.EIO { // EIO: it is shut down already
		return os.NewSyscallError("ioctl", errno)
	}
	return nil
}
