package migrate

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/hang"
	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/internal/volumes"
)

// A process that can't be looked into holds up nobody for good. A pipe that
// nobody writes to stands for what such a one has mapped.
func TestProcessThatHangs(t *testing.T) {
	hosttest.Root(t)
	proc := hosttest.Dir(t)
	process := hosttest.Subdir(t, proc, "12345678")
	maps := filepath.Join(process, "maps")
	must(t, os.Mkdir(filepath.Join(process, "fd"), 0o700), unix.Mkfifo(maps, 0o600))
	release := func() { // who waits for a writer
		for ; looks.Left(process); time.Sleep(time.Millisecond) {
			if fd, err := unix.Open(maps, unix.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
				must(t, unix.Close(fd))
			}
		}
	}
	const path = "/volumes/data/_data"
	if _, err := look(t.Context(), process, path, 50*time.Millisecond); !errors.Is(err, hang.ErrHangs) {
		t.Errorf("look: %v, want %v", err, hang.ErrHangs)
	}
	err := checkClosed(t.Context(), proc, path)
	if !errors.Is(err, volumes.ErrInUse) || !strings.Contains(err.Error(), "process 12345678 can't be looked into") {
		t.Errorf("check while it hangs: %v, want %v and the process", err, volumes.ErrInUse)
	}
	release()
	// Its caller may leave while it hangs.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := checkClosed(ctx, proc, path); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, volumes.ErrInUse) {
		t.Errorf("check whose caller leaves: %v, want %v", err, context.DeadlineExceeded)
	}
	release()
	must(t, os.Remove(maps), os.WriteFile(maps, nil, 0o600), checkClosed(t.Context(), proc, path))
}

func TestUsersAreFound(t *testing.T) {
	dir := original(t)
	data := open(t, dir)
	must(t, checkUnused(t.Context(), data))
	library, err := filepath.Glob("/lib*/*/libm.so.6") // any will do
	hosttest.Need(t, "libm.so.6", err == nil && len(library) > 0)
	for what, use := range map[string][]string{
		"open file":         {"sh", "-c", "exec 3<\"$0/dir/program\"; echo; exec sleep 1000", dir},
		"working directory": {"sh", "-c", "cd \"$0/dir\"; echo; exec sleep 1000", dir},
		"mapped file":       {"sh", "-c", "cp \"$1\" \"$0/dir/library\"; echo; LD_PRELOAD=\"$0/dir/library\" exec sleep 1000", dir, library[0]},
		// As containers have it that make others, on the host, and want it under the same path.
		"mount at its own path elsewhere": {"unshare", "--mount", "sh", "-c", "mount --bind \"$0\" \"$0\"; echo; exec sleep 1000", dir},
	} {
		t.Run(what, func(t *testing.T) {
			startUser(t, use)
			if err := checkUnused(t.Context(), data); !errors.Is(err, volumes.ErrInUse) {
				t.Errorf("%s: %v, want %v", what, err, volumes.ErrInUse)
			}
		})
	}
	must(t, checkUnused(t.Context(), data))
	point := hosttest.Subdir(t, hosttest.Dir(t), "bind")
	must(t, unix.Mount(dir+"/dir", point, "", unix.MS_BIND, ""))
	if err := checkUnused(t.Context(), data); !errors.Is(err, volumes.ErrInUse) || !strings.Contains(err.Error(), point) {
		t.Errorf("bind mount: %v, want %v and its place", err, volumes.ErrInUse)
	}
	must(t, unix.Unmount(point, 0))
	must(t, unix.Mount("tmpfs", dir+"/dir/empty", "tmpfs", 0, ""))
	if err := checkUnused(t.Context(), data); !errors.Is(err, volumes.ErrInUse) {
		t.Errorf("mount within: %v, want %v", err, volumes.ErrInUse)
	}
}

// A program that is just being started has what this process has open, and is no user of it.
func TestProgramsThatAreBeingStartedUseNothing(t *testing.T) {
	data := open(t, original(t))
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := exec.Command("true").Run(); err != nil {
				stopped <- err
				return
			}
		}
	}()
	for n := range 80 {
		if err := checkUnused(t.Context(), data); err != nil {
			t.Errorf("look %d: %v", n, err)
			break
		}
	}
	close(stop)
	must(t, <-stopped)
}
