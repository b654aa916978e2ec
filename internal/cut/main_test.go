package cut_test

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// What the test binary does when it is started by a test, as its first argument
// after this one says.
const childArg = "as-a-child"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == childArg {
		if err := child(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintf(os.Stderr, "%v: %v\n", os.Args[2:], err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(isolated) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			fmt.Fprintf(os.Stderr, "make mounts private: %v\n", err)
			os.Exit(1)
		}
	}
	if os.Geteuid() == 0 && os.Getenv(isolated) == "" {
		os.Exit(isolate())
	}
	os.Exit(m.Run())
}

// isolated is set in the environment of tests that have a mount namespace of
// their own.
const isolated = "DVOLD_TEST_ISOLATED"

// isolate runs the tests in a mount namespace of their own, and returns their
// exit status: other tests on this machine make namespaces too, which would have
// copies of the mounts made here, and be cut off from them.
func isolate() int {
	runtime.LockOSThread() // with which a child with Pdeathsig ends
	tests := exec.Command("/proc/self/exe", os.Args[1:]...)
	tests.Args[0] = os.Args[0]
	tests.Stdin, tests.Stdout, tests.Stderr = os.Stdin, os.Stdout, os.Stderr
	tests.Env = append(os.Environ(), isolated+"=1")
	tests.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	if err := tests.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// start starts this binary again in a role, in a mount namespace of its own if
// private is set, and returns when it is ready. It ends with the test.
func start(t testing.TB, private bool, args ...string) *exec.Cmd {
	t.Helper()
	command := exec.Command("/proc/self/exe", append([]string{childArg}, args...)...)
	if private {
		command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	}
	if _, err := command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	hosttest.Start(t, command)
	return command
}

// end kills a child.
func end(t *testing.T, command *exec.Cmd) {
	t.Helper()
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // reports the kill
}

// killed tells whether a child was ended by SIGKILL. It must have ended.
func killed(t *testing.T, command *exec.Cmd) bool {
	t.Helper()
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, command.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil); err != nil {
		t.Fatal(err)
	}
	const killed = 2 // CLD_KILLED
	return info.Signo == int32(unix.SIGCHLD) && info.Code == killed
}

// alive tells whether a child has not ended.
func alive(t *testing.T, command *exec.Cmd) bool {
	t.Helper()
	p, err := host.FindProcess(command.Process.Pid)
	return err == nil && p.Alive()
}

// process returns who a child is.
func process(t *testing.T, command *exec.Cmd) host.Process {
	t.Helper()
	p, err := host.FindProcess(command.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func pid(command *exec.Cmd) string { return strconv.Itoa(command.Process.Pid) }

// newCutter returns one that logs to the test.
func newCutter(t testing.TB) *cut.Cutter {
	return &cut.Cutter{Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
}

type testWriter struct{ testing.TB }

func (w testWriter) Write(text []byte) (int, error) {
	w.Log(strings.TrimSpace(string(text)))
	return len(text), nil
}
