package program_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/hang"
	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/internal/program"
)

// TestMain lets the test program be one that has threads, writes its process number to a
// file, and does not end.
func TestMain(m *testing.M) {
	if file := os.Getenv("DVOLD_TEST_PID_FILE"); file != "" {
		if err := os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
			os.Exit(1)
		}
		time.Sleep(time.Minute)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A program that was killed and does not go, as if it hung in the kernel, is not begun again
// before it is gone.
func TestKilledProgramHangs(t *testing.T) {
	hosttest.Root(t)
	// A tracer's threads: a process is not gone before one of it that is traced is reaped.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	file := filepath.Join(t.TempDir(), "pid")
	argv, env := []string{os.Args[0]}, []string{"DVOLD_TEST_PID_FILE=" + file}
	run := func() error {
		_, err := program.Run(t.Context(), argv, env, 3*time.Second, nil)
		return err
	}
	first := make(chan error, 1)
	go func() { first <- run() }()
	thread := aThread(t, file)
	if err := unix.PtraceSeize(thread); err != nil {
		t.Skipf("this kernel lets nobody trace: %v", err)
	}
	if err := <-first; err == nil || !strings.Contains(err.Error(), "it hangs in the kernel: process ") {
		t.Errorf("got %v", err)
	}
	before := runtime.NumGoroutine()
	for range 5 {
		began := time.Now()
		if err := run(); !errors.Is(err, hang.ErrStillHangs) || time.Since(began) > time.Second {
			t.Errorf("after %v: got %v, want %v", time.Since(began), err, hang.ErrStillHangs)
		}
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("there are %d goroutines, and were %d", n, before)
	}
	if _, err := program.Run(t.Context(), []string{"/bin/true"}, env, 10*time.Second, nil); err != nil {
		t.Errorf("another program: %v", err)
	}
	if _, err := unix.Wait4(thread, nil, unix.WALL, nil); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); errors.Is(run(), hang.ErrStillHangs); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 10*time.Second {
			t.Fatal("it is gone, and still not begun again")
		}
	}
}

// aThread returns a thread, not the first, of the process that a file names.
func aThread(t *testing.T, file string) int {
	t.Helper()
	for began := time.Now(); time.Since(began) < 3*time.Second; time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(file)
		if err != nil || !strings.HasSuffix(string(text), "\n") {
			continue
		}
		pid := strings.TrimSpace(string(text))
		threads, err := os.ReadDir("/proc/" + pid + "/task")
		if err != nil {
			t.Fatal(err)
		}
		if i := slices.IndexFunc(threads, func(e os.DirEntry) bool { return e.Name() != pid }); i >= 0 {
			thread, err := strconv.Atoi(threads[i].Name())
			if err != nil {
				t.Fatal(err)
			}
			return thread
		}
	}
	t.Fatal("it has no threads")
	return 0
}
