// Package guest runs a program on a kernel that has what it needs.
//
// That is a User-Mode Linux guest: a kernel that runs as a process, whose root is
// the machine's own, read-only, and whose network is its own.
package guest

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// inGuest and modules are set in the environment of a guest.
const (
	inGuest = "DVOLD_GUEST_DIR"
	modules = "DVOLD_GUEST_MODULES"
)

// Pids is set in the environment of a guest to how many process numbers it leaves out,
// so that its processes have others than those of one that starts with it.
const Pids = "DVOLD_GUEST_PIDS"

//go:embed init.sh
var script []byte

// Mnt is where the guest has its directory of the machine's.
const Mnt = "/mnt"

// Inside tells whether this is a guest.
func Inside() bool { return os.Getenv(inGuest) != "" }

// Missing says what guests need and this machine lacks, or is empty.
func Missing() string {
	for _, command := range []string{"linux.uml", "busybox", "ip"} {
		if _, err := exec.LookPath(command); err != nil {
			return command
		}
	}
	return ""
}

// Guest is a kernel and what runs on it.
type Guest struct {
	// Dir is a directory of the machine's that the guest has at Mnt, to write to, too.
	Dir string
	// Command is what runs. Its directory, /tmp, is the guest's own.
	Command []string
	// Env is what more it has in its environment, as NAME=VALUE without spaces.
	Env []string
	// Memory is how much there is, as "768M".
	Memory string
	// Load are kernel modules, in the order in which they are loaded.
	Load []string
	// Tap is the network device of the machine's that the guest's, vec0, is connected
	// to; empty means none.
	Tap string
	// Started, unless nil, is called with the first process of the kernel, once that runs.
	Started func(*os.Process)
	// Cable is one of a pair of sockets for datagrams, whose other is the other end of
	// vec0; nil means none. It is an alternative to Tap.
	Cable *os.File
	// Patience is how long it may show no sign of life; 0 means two minutes.
	Patience time.Duration
}

// Result is what came of a run.
type Result struct {
	Status  string // the command's exit status; empty if it did not come to its end
	Output  []byte // of the command
	Console []byte // of the kernel
	Err     error  // that the kernel ended with, or ErrStill
}

// Run runs the guest until its command or ctx ends, or it stands still.
func (g Guest) Run(ctx context.Context) Result {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	init := filepath.Join(g.Dir, "init")
	if err := os.WriteFile(init, script, 0o755); err != nil {
		return Result{Err: err}
	}
	args := []string{"mem=" + g.Memory, "uml_dir=" + g.Dir,
		"pty.legacy_count=0", // else there are 512 devices, and of each a program is told, or would be: most of what the start takes
		"root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet", "con0=fd:0,fd:1", "con=null",
		"init=" + init, inGuest + "=" + g.Dir, modules + "=" + strings.Join(g.Load, ",")}
	machine := exec.CommandContext(ctx, "linux.uml")
	switch {
	case g.Tap != "":
		args = append(args, "vec0:transport=tap,ifname="+g.Tap+",depth=128,gro=1") // else it takes no packets that are larger than the cable lets through
	case g.Cable != nil:
		args = append(args, "vec0:transport=fd,fd=3,mtu=1500")
		machine.ExtraFiles = []*os.File{g.Cable}
	}
	args = append(append(args, g.Env...), "--")
	machine.Args = append(append(machine.Args, args...), g.Command...)
	machine.Env = append(os.Environ(), "TMPDIR="+memory(g.Dir))
	// The guest is several processes; in a PID namespace all end with the first.
	runtime.LockOSThread() // with which a child with Pdeathsig ends
	defer runtime.UnlockOSThread()
	machine.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	machine.WaitDelay = 10 * time.Second
	var console bytes.Buffer
	machine.Stdout, machine.Stderr = &console, &console
	var r Result
	if r.Err = machine.Start(); r.Err == nil {
		if g.Started != nil {
			g.Started(machine.Process)
		}
		go watch(ctx, g.Dir, machine.Process.Pid, cmp.Or(g.Patience, stillAfter), end)
		r.Err = machine.Wait()
		if cause := context.Cause(ctx); errors.Is(cause, ErrStill) {
			r.Err = cause
		}
	}
	r.Console = console.Bytes()
	r.Output, _ = os.ReadFile(filepath.Join(g.Dir, "output"))
	status, _ := os.ReadFile(filepath.Join(g.Dir, "status"))
	r.Status = strings.TrimSpace(string(status))
	return r
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
