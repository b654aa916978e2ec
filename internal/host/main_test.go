package host_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// What the test binary does when it is started by a test, as its first
// argument after this one says.
const childArg = "as-a-child"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == childArg {
		child(os.Args[2], os.Args[3:])
	}
	os.Exit(m.Run())
}

func child(role string, args []string) {
	switch role {
	case "wait":
	case "bind": // source target ...
		for ; len(args) >= 2; args = args[2:] {
			if err := unix.Mount(args[0], args[1], "", unix.MS_BIND, ""); err != nil {
				fmt.Fprintf(os.Stderr, "bind %s to %s: %v\n", args[0], args[1], err)
				os.Exit(1)
			}
		}
	case "count-users":
		fmt.Println(countUsers(args[0]))
		os.Exit(0)
	case "end-first-thread":
		hosttest.EndFirstThread()
	}
	fmt.Println("ready")
	<-make(chan struct{}, len(os.Args)) // nobody sends
}

func countUsers(target string) (int, error) {
	m, err := host.MountedAt(target)
	if err != nil || m == nil {
		return -1, fmt.Errorf("no mount at %s: %v", target, err)
	}
	users, err := host.OtherUsers(context.Background(), m)
	return len(users), err
}

// startChild starts this binary again in a role, in a mount namespace of its
// own if private is set, and returns when it is ready.
func startChild(t *testing.T, private bool, args ...string) *exec.Cmd {
	t.Helper()
	command := exec.Command("/proc/self/exe", append([]string{childArg}, args...)...)
	if private {
		command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	}
	hosttest.Start(t, command)
	return command
}
