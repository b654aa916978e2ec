package guesttest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/host/guest"
)

// signals are what a guest may have the other get, by the name of the file that asks the
// machine for it and is gone when that is done.
var signals = map[string]syscall.Signal{"stop-other": syscall.SIGSTOP, "continue-other": syscall.SIGCONT}

// StopOther has the second guest of Together stand still, as a virtual machine that is
// paused, until goOn is called. It is for the first.
func StopOther(t *testing.T) (goOn func()) {
	t.Helper()
	ask := func(what string) {
		file := filepath.Join(guest.Mnt, what)
		err := os.WriteFile(file, nil, 0o600)
		for end := time.Now().Add(time.Minute); err == nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			_, err = os.Lstat(file)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ask("stop-other")
	return func() { ask("continue-other") }
}

// serve does what the guest asks the machine for, until the test has ended.
func (m machine) serve(t *testing.T, other machine) {
	var process *os.Process
	select {
	case process = <-other.process:
	case <-t.Context().Done():
	}
	for ; t.Context().Err() == nil; time.Sleep(10 * time.Millisecond) {
		for name, signal := range signals {
			file := filepath.Join(m.dir, name)
			if _, err := os.Lstat(file); err != nil {
				continue
			}
			if err := errors.Join(process.Signal(signal), os.Remove(file)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
