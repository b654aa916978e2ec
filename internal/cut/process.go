package cut

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
)

// process is one of this machine, kernel threads aside, while it is looked at.
type process struct {
	pid int
	dir dir
	status
}

// thread is one of a process that has not ended.
type thread struct {
	dir   dir
	files bool // it has descriptors that no thread before it had
	paths bool // it has a root, working directory or mount namespace that none before it had
}

// eachProcess calls fn for each process but those of the kernel, and but for
// pid 1, if nobody may look at that: some systems shield it.
func eachProcess(ctx context.Context, fn func(*process) error) error {
	return eachDir(ctx, func(pid int, d dir) error {
		s, err := d.status()
		if err != nil || s.kernel || s.ended() && s.threads <= 1 {
			return err
		}
		return fn(&process{pid, d, s})
	})
}

// eachDir calls fn for the directory of each process, in the order of their
// numbers. Those that come meanwhile are met too, if theirs is higher.
func eachDir(ctx context.Context, fn func(pid int, d dir) error) error {
	proc, err := unix.Open("/proc", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/proc", Err: err}
	}
	defer unix.Close(proc)
	// Two at a time: so processes that begin others, and end, are caught up with.
	var few [64]byte
	for {
		n, err := unix.ReadDirent(proc, few[:])
		if n <= 0 || err != nil {
			return os.NewSyscallError("getdents", err)
		}
		_, _, names := unix.ParseDirent(few[:n], -1, nil)
		for _, name := range names {
			pid, err := strconv.Atoi(name)
			if err != nil {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			d, err := dir(proc).open(name)
			if err == nil {
				err = fn(pid, d)
				d.close()
			}
			if err != nil && !vanished(err) && !(pid == 1 && errors.Is(err, fs.ErrPermission)) {
				return fmt.Errorf("look at process %d: %w", pid, err)
			}
		}
	}
}

// eachThread calls fn for the first thread of the process, and for those that
// have something that no thread before them has, until fn returns an error.
// Most share all. The first may have ended before the others.
func (p *process) eachThread(fn func(thread) error) error {
	if p.threads <= 1 {
		return fn(thread{p.dir, true, true})
	}
	names, err := p.dir.names("task")
	if err != nil {
		return err
	}
	var met []int
	for _, name := range names {
		if err := p.withThread(name, &met, fn); err != nil && !vanished(err) {
			return err
		}
	}
	return nil
}

func (p *process) withThread(name string, met *[]int, fn func(thread) error) error {
	tid, err := strconv.Atoi(name)
	if err != nil {
		return err
	}
	t := thread{files: true, paths: true}
	for _, before := range *met {
		t.files = t.files && !same(before, tid, kcmpFiles)
		t.paths = t.paths && !same(before, tid, kcmpPaths)
	}
	if !t.files && !t.paths {
		return nil
	}
	if t.dir, err = p.dir.open("task/" + name); err != nil {
		return err
	}
	defer t.dir.close()
	s := p.status
	if tid != p.pid {
		s, err = t.dir.status()
	}
	if err != nil || s.ended() {
		return err
	}
	*met = append(*met, tid)
	return fn(t)
}

// What kcmp(2) compares: linux/kcmp.h.
const (
	kcmpFiles = 2 // the table of descriptors
	kcmpPaths = 3 // root and working directory; who shares them is in the same mount namespace
)

// same tells whether two threads share something. If the kernel can't tell,
// they don't.
func same(a, b, what int) bool {
	result, _, errno := unix.RawSyscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), uintptr(what), 0, 0, 0)
	return errno == 0 && result == 0
}

func (p *process) identity() host.Process { return host.Process{PID: p.pid, Start: p.start} }
