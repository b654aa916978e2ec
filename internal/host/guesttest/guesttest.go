// Package guesttest runs tests on a kernel that has what they need.
//
// That is a User-Mode Linux guest: a kernel that runs as a process, whose root is
// the machine's own, read-only, and whose network is its own.
package guesttest

import (
	"context"
	_ "embed"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host/hosttest"
)

// inGuest and modules are set in the environment of a guest.
const (
	inGuest = "DVOLD_GUEST_DIR"
	modules = "DVOLD_GUEST_MODULES"
)

// Shared is where a guest has what it shares with the machine.
const Shared = "/mnt"

//go:embed guest.sh
var guest []byte

// Inside tells whether this is a guest.
func Inside() bool { return os.Getenv(inGuest) != "" }

// Run runs a test of the top level again in a guest, with kernel modules that are
// loaded in that order, and has it fail if it fails there.
func Run(t *testing.T, load ...string) { t.Helper(); Guest{Load: load}.Run(t) }

// Guest is what a test can run in.
type Guest struct {
	// Load are kernel modules, in the order in which they are loaded.
	Load []string
	// Tap is the network device of the machine's that the guest's, vec0, is connected
	// to; empty means none.
	Tap string
	// Programs are files of the machine's that lie in the directory Shared there.
	Programs []string
	// Env is what more the test has in its environment, as NAME=VALUE without spaces.
	Env []string
}

// Run runs a test of the top level again in the guest, and has it fail if it fails
// there.
func (g Guest) Run(t *testing.T) {
	t.Helper()
	for _, command := range []string{"linux.uml", "busybox", "ip", "go"} {
		_, err := exec.LookPath(command)
		hosttest.Need(t, command, err == nil)
	}
	dir := hosttest.Dir(t)
	binary, init := filepath.Join(dir, "test"), filepath.Join(dir, "init")
	// Its race detector would need more addresses than a guest has.
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-race=false", "-tags="+tags(), "-o", binary, ".")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the test for the guest: %v: %s", err, output)
	}
	if err := os.WriteFile(init, guest, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, program := range g.Programs {
		text, err := os.ReadFile(program)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(program)), text, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	args := []string{"mem=768M", "uml_dir=" + dir,
		"root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet", "con0=fd:0,fd:1", "con=null",
		"init=" + init, inGuest + "=" + dir, modules + "=" + strings.Join(g.Load, ","), "DVOLD_TEST_REQUIRE=root"}
	if g.Tap != "" {
		args = append(args, "vec0:transport=tap,ifname="+g.Tap+",depth=128,gro=1") // else it takes no packets that are larger than the cable lets through
	}
	args = append(append(args, g.Env...), "--", Shared+"/test", "-test.v", "-test.run="+pattern(t))
	machine := exec.CommandContext(ctx, "linux.uml", args...)
	machine.Env = append(os.Environ(), "TMPDIR="+memory(dir))
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

// tags are those that this test was built with.
func tags() string {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-tags" {
			return s.Value
		}
	}
	return ""
}

// pattern is what the guest is to run: the test, or what of it was asked for here.
func pattern(t *testing.T) string {
	this := "^" + regexp.QuoteMeta(t.Name()) + "$"
	if _, below, ok := strings.Cut(flag.Lookup("test.run").Value.String(), "/"); ok {
		return this + "/" + below
	}
	return this
}

// memory is the directory of the file that is the guest's memory: one that lies in
// memory itself, if there is one, for it is slow otherwise.
func memory(otherwise string) string {
	var fs unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &fs); err == nil && fs.Type == unix.TMPFS_MAGIC {
		return "/dev/shm"
	}
	return otherwise
}
