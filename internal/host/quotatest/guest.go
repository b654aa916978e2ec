// Package quotatest gives tests file systems with project quotas, on a kernel
// that has none too.
package quotatest

import (
	"context"
	_ "embed"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host/hosttest"
)

// inGuest is set in the environment of a guest.
const inGuest = "DVOLD_GUEST_DIR"

//go:embed guest.sh
var guest []byte

// Elsewhere sees to it that a test has ext4 and XFS with project quotas. Where
// this kernel has both it returns false: go on. Where it has not, it runs the
// test again in a User-Mode Linux guest, has it fail if it fails there, and
// returns true: it is done. It is for a test of the top level.
func Elsewhere(t *testing.T) bool {
	t.Helper()
	hosttest.Root(t)
	for _, command := range []string{"mkfs.ext4", "mkfs.xfs"} {
		_, err := exec.LookPath(command)
		hosttest.Need(t, command, err == nil)
	}
	if os.Getenv(inGuest) != "" || supported(t) {
		return false
	}
	for _, command := range []string{"linux.uml", "busybox", "go"} {
		_, err := exec.LookPath(command)
		hosttest.Need(t, command, err == nil) // for this kernel has no project quotas
	}
	run(t)
	return true
}

// supported tells whether this kernel mounts what the tests need.
func supported(t *testing.T) bool {
	for kind, mkfs := range map[string][]string{"ext4": Ext4(), "xfs": XFS()} {
		dir := hosttest.Dir(t)
		err := unix.Mount(Disk(t, mkfs...), dir, kind, 0, "prjquota")
		if errors.Is(err, unix.EINVAL) {
			return false
		}
		if err != nil {
			t.Fatalf("mount %s: %v", kind, err)
		}
		if err := unix.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
	}
	return true
}

// Ext4 is the command that makes an ext4 with project quotas.
func Ext4() []string {
	return []string{"mkfs.ext4", "-q", "-O", "project,quota", "-E", "quotatype=prjquota"}
}

// XFS is the command that makes an XFS.
func XFS() []string {
	return []string{"mkfs.xfs", "-q"}
}

// run runs the test in a guest.
func run(t *testing.T) {
	dir := hosttest.Dir(t)
	binary, init := filepath.Join(dir, "test"), filepath.Join(dir, "init")
	// Its race detector would need more addresses than a guest has.
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-race=false", "-o", binary, ".")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the test for the guest: %v: %s", err, output)
	}
	if err := os.WriteFile(init, guest, 0o755); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	machine := exec.CommandContext(ctx, "linux.uml", "mem=768M", "uml_dir="+dir,
		"root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet", "con0=fd:0,fd:1", "con=null",
		"init="+init, inGuest+"="+dir, "DVOLD_TEST_REQUIRE=root",
		"--", "/mnt/test", "-test.v", "-test.run=^"+regexp.QuoteMeta(t.Name())+"$")
	machine.Env = append(os.Environ(), "TMPDIR="+dir)
	// The guest is several processes; in a PID namespace all end with the first.
	runtime.LockOSThread() // with which a child with Pdeathsig ends
	defer runtime.UnlockOSThread()
	machine.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	machine.WaitDelay = 10 * time.Second
	console, err := machine.CombinedOutput()

	output, _ := os.ReadFile(filepath.Join(dir, "output"))
	status, _ := os.ReadFile(filepath.Join(dir, "status"))
	switch {
	case len(status) == 0:
		t.Fatalf("the guest came to no result: %v\n%s\nits console:\n%s", err, output, console)
	case strings.TrimSpace(string(status)) != "0" || strings.Contains(string(output), "SKIPPED: "):
		t.Errorf("in the guest:\n%s", output)
	default:
		t.Logf("in the guest:\n%s", output)
	}
}
