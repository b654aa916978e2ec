package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/hang"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/volumes"
)

// checkUnused returns ErrInUse if dir, or anything in it, is mounted
// somewhere, is a mountpoint, or is open in a process other than this one.
func checkUnused(ctx context.Context, dir *os.File) error {
	source, err := host.Source(dir)
	if err != nil {
		return err
	}
	mounts, err := host.MountsOf(source)
	if err != nil {
		return err
	}
	within, err := host.MountsBelow(source.Mountpoint)
	if err != nil {
		return err
	}
	for _, m := range append(mounts, within...) {
		return fmt.Errorf("there is a mount of it or in it at %s: unmount that: %w", m.Mountpoint, volumes.ErrInUse)
	}
	// Nothing of it is mounted here, so that no other has a mere copy of that: whatever it
	// is called there, also by its own path, somebody has mounted it.
	foreign := *source
	foreign.Mountpoint = ""
	users, err := host.OtherUsers(ctx, &foreign)
	if err != nil {
		return err
	}
	for _, u := range users {
		return fmt.Errorf("process %d (%s) has it mounted: stop the containers that use it: %w", u.PID, u.Command, volumes.ErrInUse)
	}
	return checkClosed(ctx, "/proc", source.Mountpoint)
}

// checkClosed returns ErrInUse if a process, of those in proc, has a file below
// path open or mapped, or its working or root directory there, or hangs so that
// it can't be told. One that sees path under another name is found if that ends
// alike. One that even root may not look into is passed over; what it writes
// meanwhile, the fingerprint tells.
func checkClosed(ctx context.Context, proc, path string) error {
	tail := strings.TrimPrefix(path, filepath.Dir(filepath.Dir(path)))
	processes, err := os.ReadDir(proc)
	if err != nil {
		return err
	}
	for _, p := range processes {
		if err := ctx.Err(); err != nil {
			return err
		}
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		process := filepath.Join(proc, p.Name())
		ours := host.IsChild(pid) // before the look, after which it may be gone
		found, err := look(ctx, process, tail, lookTimeout)
		for end := time.Now().Add(startTime); found != "" && ours && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
			found, err = look(ctx, process, tail, lookTimeout)
		}
		over := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) // it ended
		if errors.Is(err, hang.ErrHangs) {
			return fmt.Errorf("process %d can't be looked into: it hangs: end it, or reboot this host: %w", pid, volumes.ErrInUse)
		}
		if err != nil && !over && !errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("look for open files of process %d: %w", pid, err)
		}
		if found != "" {
			return fmt.Errorf("process %d has %s open: end it: %w", pid, found, volumes.ErrInUse)
		}
	}
	return nil
}

// lookTimeout bounds a look into one process.
const lookTimeout = 10 * time.Second

// startTime is how long a program that this process has started may take to get rid of what
// it has of it: all that is open here, until the midst of execve(2).
const startTime = time.Second

// looks are those into processes. Reading what one has mapped waits for a lock, which one
// that hangs in the kernel may hold for good.
var looks hang.Calls

// look is opened that returns hang.ErrHangs when the time is over, or sooner if an earlier
// look at the process still hangs: a list of volumes takes one for each of them.
func look(ctx context.Context, process, tail string, timeout time.Duration) (string, error) {
	if looks.Left(process) {
		timeout = min(timeout, time.Second)
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	found, err := hang.Call(limited, &looks, process, func() (string, error) { return opened(process, tail) }, nil)
	return found, cmp.Or(ctx.Err(), err)
}

// opened returns a file with tail in its path that a process has, or "".
func opened(process, tail string) (string, error) {
	files, err := os.ReadDir(process + "/fd")
	if err != nil {
		return "", err
	}
	links := []string{"cwd", "root", "exe"}
	for _, f := range files {
		links = append(links, "fd/"+f.Name())
	}
	for _, l := range links {
		target, err := os.Readlink(filepath.Join(process, l))
		if err == nil && lies(target, tail) {
			return target, nil
		}
	}
	maps, err := os.ReadFile(process + "/maps")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(maps)) {
		if _, target, ok := strings.Cut(line, "/"); ok && lies("/"+strings.TrimSuffix(target, "\n"), tail) {
			return "/" + strings.TrimSuffix(target, "\n"), nil
		}
	}
	return "", nil
}

// lies tells whether path has tail in it, as whole names.
func lies(path, tail string) bool {
	return strings.Contains(strings.TrimSuffix(path, " (deleted)")+"/", tail+"/")
}
