package host

import (
	"bytes"
	"fmt"
	"iter"
	"os"
	"runtime"
	"strconv"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// InMountNamespace calls f in the mount namespace that a file is open on, and
// returns its error. Absolute paths lead from the root of the namespace there.
// f has a thread of its own, which ends with it: what it changes about its
// thread is seen by nobody else. If namespace is nil, it is ours.
func InMountNamespace(namespace *os.File, f func() error) error {
	if namespace == nil {
		return f()
	}
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNS); err != nil {
			return os.NewSyscallError("setns", err)
		}
		return f()
	})
}

// onThread calls f on a thread that ends with it. Never on the first one, which
// the runtime doesn't let end, and which stands for the process in /proc: it
// would stay where f has left it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			done <- f()
			return // locked: the thread ends
		}
		done <- onThread(f) // while this one is occupied
		runtime.UnlockOSThread()
	}()
	return <-done
}

// MountTable is a mount table as text: a host may have many and long ones, so
// only what is asked for is parsed.
type MountTable struct{ text table }

// ReadMountTable returns the mount table of the mount namespace that a file is
// open on, or of ours, if it is nil: all mounts that can be reached from the
// root of the namespace. Like all that reads tables, it touches none of the
// file systems listed.
func ReadMountTable(namespace *os.File) (MountTable, error) {
	t, err := readMountTable(namespace)
	if err != nil {
		return MountTable{}, fmt.Errorf("read mount table: %w", err)
	}
	return MountTable{t}, nil
}

func readMountTable(namespace *os.File) (table, error) {
	if namespace == nil {
		return readTable(ownTable)
	}
	// There may be no /proc in the other namespace. What the file shows is
	// settled when it is opened.
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/proc", Err: err}
	}
	defer unix.Close(proc)
	var fd int
	err = InMountNamespace(namespace, func() (err error) {
		fd, err = unix.Openat(proc, "thread-self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return os.NewSyscallError("openat", err)
	})
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return readTableFrom(fd, namespace.Name())
}

// All returns the mounts.
func (t MountTable) All() ([]*mountinfo.Info, error) { return t.text.mounts("") }

// Of returns the mounts of a file system.
func (t MountTable) Of(major, minor int) ([]*mountinfo.Info, error) {
	mounts, err := t.text.mounts(fmt.Sprintf(" %d:%d ", major, minor))
	if err != nil {
		return nil, err
	}
	var found []*mountinfo.Info
	for _, m := range mounts {
		if m.Major == major && m.Minor == minor {
			found = append(found, m)
		}
	}
	return found, nil
}

// OfType returns the mounts of a type of file systems.
func (t MountTable) OfType(kind string) ([]*mountinfo.Info, error) {
	mounts, err := t.text.mounts(" - " + kind + " ")
	if err != nil {
		return nil, err
	}
	var found []*mountinfo.Info
	for _, m := range mounts {
		if m.FSType == kind {
			found = append(found, m)
		}
	}
	return found, nil
}

// At returns the mounts at target, the topmost last.
func (t MountTable) At(target string) ([]*mountinfo.Info, error) { return t.text.at(target) }

// IDs yields the numbers of all mounts.
func (t MountTable) IDs() iter.Seq[int] {
	return func(yield func(int) bool) {
		for line := range bytes.Lines(t.text) {
			field, _, _ := bytes.Cut(line, []byte(" "))
			if id, err := strconv.Atoi(string(field)); err == nil && !yield(id) {
				return
			}
		}
	}
}
