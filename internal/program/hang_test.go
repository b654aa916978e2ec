package program_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/internal/program"
)

// hanging is a program that can't be opened for now, as if it lay on a storage that hangs.
func hanging(t *testing.T) (path string, goOn func()) {
	t.Helper()
	hosttest.Root(t)
	path = filepath.Join(hosttest.Dir(t), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho done\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	// Who opens it waits for a word from this process; see fanotify(7).
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY)
	if errors.Is(err, unix.ENOSYS) {
		t.Skip("this kernel has no fanotify")
	}
	if err != nil {
		t.Fatal(err)
	}
	goOn = sync.OnceFunc(func() { unix.Close(fd) })
	t.Cleanup(goOn)
	if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD, unix.FAN_OPEN_PERM, unix.AT_FDCWD, path); errors.Is(err, unix.EINVAL) {
		t.Skip("this kernel does not ask whether a file may be opened")
	} else if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Second, goOn) // should the test wait for it
	return path, goOn
}

// A program whose storage hangs is given up in time, leaves one goroutine behind however often
// it is tried, and nothing else of this process waits for it.
func TestProgramHangs(t *testing.T) {
	path, goOn := hanging(t)
	before := runtime.NumGoroutine()
	const timeout = 100 * time.Millisecond
	for range 5 {
		began := time.Now()
		_, err := program.Run(t.Context(), []string{path}, nil, timeout, nil)
		if err == nil || !strings.Contains(err.Error(), "no answer within") {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		if _, err := program.Run(ctx, []string{path}, nil, time.Minute, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		runtime.GC() // for which all that runs has to stop
	}
	if n := runtime.NumGoroutine(); n > before+2 {
		t.Errorf("there are %d goroutines, and were %d", n, before)
	}
	goOn()
	if said, err := program.Run(t.Context(), []string{path}, nil, 10*time.Second, nil); err != nil || said != "done" {
		t.Errorf("once it can be opened: %q, %v", said, err)
	}
	if err := program.StillTrusted(t.Context(), path, 10*time.Second); err != nil {
		t.Error(err)
	}
	if err := program.StillTrusted(t.Context(), path+"2", 10*time.Second); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a program that is not there: %v", err)
	}
}
