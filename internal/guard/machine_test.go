package guard_test

import (
	"bytes"
	"context"
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host/hosttest"
)

//go:embed testdata/guest.sh
var guest []byte

// The kernel's own reboot, of a machine that may be rebooted.
func TestMachineReboots(t *testing.T) {
	t.Parallel()
	hosttest.Root(t)
	for _, command := range []string{"linux.uml", "go"} {
		_, err := exec.LookPath(command)
		hosttest.Need(t, command, err == nil)
	}
	dir := hosttest.Dir(t)
	buildPlain(t, filepath.Join(dir, "test"))
	init := filepath.Join(dir, "init")
	if err := os.WriteFile(init, guest, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	machine := exec.CommandContext(ctx, "linux.uml", "mem=256M", "uml_dir="+dir, "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet",
		"pty.legacy_count=0", // as in package guest
		"con0=fd:0,fd:1", "con=null", "init="+init, "GUEST_DIR="+dir, "--", "/mnt/test", childArg, "overdue", "/run/guard")
	machine.Env = append(os.Environ(), "TMPDIR="+dir)
	// The guest is several processes; in a PID namespace all end with the first.
	runtime.LockOSThread() // with which a child with Pdeathsig ends
	defer runtime.UnlockOSThread()
	machine.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	machine.WaitDelay = 10 * time.Second
	var console bytes.Buffer
	machine.Stdout, machine.Stderr = &console, &console
	if err := machine.Start(); err != nil {
		t.Fatal(err)
	}
	var boots []byte
	for ctx.Err() == nil && bytes.Count(boots, []byte("\n")) < 2 {
		time.Sleep(100 * time.Millisecond)
		boots, _ = os.ReadFile(filepath.Join(dir, "boots"))
	}
	cancel()
	err := machine.Wait()

	said, _ := os.ReadFile(filepath.Join(dir, "output"))
	if string(boots) != "first\nagain\n" {
		t.Errorf("the guest booted: %s: %v; its guard said: %s", boots, err, said)
	}
	for what, text := range map[string]string{"the guard": string(said), "the console": console.String()} {
		if !strings.Contains(text, "this host reboots") || !strings.Contains(text, "the lease of volume a is over for 1") {
			t.Errorf("%s does not say why: %s", what, text)
		}
	}
}

// buildPlain builds this test without the race detector, which wants more
// memory than may be locked, and addresses than a guest has, and as dvold is
// built.
func buildPlain(t *testing.T, path string) {
	t.Helper()
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-race=false", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
}
