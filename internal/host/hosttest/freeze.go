package hosttest

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Freeze stops a process, and returns once none of its threads runs any more,
// which on a busy machine is long after the signal was sent. It goes on with the
// thaw, or when the test ends.
func Freeze(t testing.TB, pid int) (thaw func()) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatalf("freeze process %d: %v", pid, err)
	}
	thaw = func() {
		if err := unix.Kill(pid, unix.SIGCONT); err != nil && !errors.Is(err, unix.ESRCH) {
			t.Errorf("thaw process %d: %v", pid, err)
		}
	}
	t.Cleanup(thaw)
	const patience = 30 * time.Second
	for end := time.Now().Add(patience); !frozen(t, pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("process %d still runs %v after it was stopped", pid, patience)
		}
	}
	return thaw
}

// frozen tells whether each thread of a process is stopped, proc_pid_stat(5).
func frozen(t testing.TB, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads of process %d: %v (%v)", pid, threads, err)
	}
	for _, path := range threads {
		stat, err := os.ReadFile(path)
		if err != nil {
			return false // a thread has just ended: the next look tells
		}
		_, state, _ := strings.Cut(string(stat), ") ") // behind its name
		if !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return true
}
