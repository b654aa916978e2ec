package fuseclient

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/program"
)

// inScope runs a client in a scope of its own; see systemd-run(1). A shutdown ends
// it after the engine, whose containers have its volumes, and before the network.
var inScope = [...]string{
	"systemd-run", "--scope", "--quiet", "--collect", "--slice=dvol-clients.slice",
	"--property=Before=docker.service", "--property=After=network.target", "--",
}

// process is a client that this process has started.
type process struct {
	host.Process               // zero if it ended at once
	said         *os.File      // what it, or systemd-run, wrote outside of its log
	ended        chan struct{} // closed once it has
}

// spawn starts a client. It is no child of a control group that ends with dvold:
// under systemd it gets a scope of its own, as what KillMode leaves alone would
// still end with "systemctl kill", or with a group that runs out of memory.
// Elsewhere it is a session of its own. systemd-run becomes the client, so that the
// process is the same from the beginning.
func (k Kind) spawn(args []string) (*process, error) {
	argv := append([]string{k.Program}, args...)
	if underSystemd() {
		argv = slices.Concat(inScope[:], argv)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	said, err := os.CreateTemp("", "dvol-client")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(said.Name()) // else it is one more file in a directory for such
	cmd.Stdout, cmd.Stderr = said, said
	cmd.Dir = "/"
	cmd.Env = []string{program.SearchPath}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		said.Close()
		return nil, err
	}
	p := &process{said: said, ended: make(chan struct{})}
	p.Process, err = host.FindProcess(cmd.Process.Pid) // it is not reaped yet
	go func() {
		_ = cmd.Wait() // what it had to say is in its log
		close(p.ended)
	}()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, cmd.Process.Kill(), said.Close())
	}
	return p, nil
}

// maxOutput is how much of what a process wrote is told.
const maxOutput = 4096

// output is the end of what the process wrote outside of its log.
func (p *process) output() string {
	info, err := p.said.Stat()
	if err != nil {
		return ""
	}
	text := make([]byte, maxOutput)
	n, _ := p.said.ReadAt(text, max(0, info.Size()-maxOutput))
	return string(bytes.TrimSpace(text[:n]))
}

// underSystemd is sd_booted(3).
func underSystemd() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// At returns the clients that were started for mountpoint, which they
// have as their last argument, and no other: it is ours alone. They are in our mount
// namespace, as whoever dvold starts; what a container calls so is none. They may serve
// what was mounted there and has been bound elsewhere since.
func (k Kind) At(mountpoint string) ([]host.Process, error) {
	all, err := k.Below(filepath.Dir(mountpoint))
	return all[filepath.Base(mountpoint)], err
}

// Below is At for all mountpoints in dir, by their names.
func (k Kind) Below(dir string) (map[string][]host.Process, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	namespace, err := os.Readlink("/proc/thread-self/ns/mnt")
	if err != nil {
		return nil, err
	}
	found, patience := make(map[string][]host.Process), time.Now().Add(execTime)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		args, err := argumentsIn(pid, namespace, patience)
		if err != nil || len(args) == 0 { // it has ended, or is of the kernel
			continue
		}
		last := args[len(args)-1]
		if filepath.Base(args[0]) != k.Program || filepath.Dir(last) != dir || !isIn(pid, namespace) {
			continue
		}
		p, err := host.FindProcess(pid)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found[filepath.Base(last)] = append(found[filepath.Base(last)], p)
	}
	return found, nil
}

// arguments are those of a process, its name first; none if it has ended, is of the
// kernel, or shows none.
func arguments(pid int) (args []string, err error) {
	err = eachThread(pid, func(dir string) (bool, error) {
		text, err := os.ReadFile(dir + "/cmdline")
		if len(text) == 0 {
			return false, err
		}
		args = strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
		return true, nil
	})
	return args, err
}

// execTime is how long processes are waited for that run a program and show no arguments.
// Within execve(2) one does so for a moment: after it has the new program's memory, and before
// that has its arguments. One whose program lies on dead storage may stay there.
const execTime = time.Second

// argumentsIn is arguments for a process in a mount namespace, in the midst of execve(2), too,
// if that does not last. In another it may show none.
func argumentsIn(pid int, namespace string, end time.Time) ([]string, error) {
	for ; ; time.Sleep(time.Millisecond) {
		args, err := arguments(pid)
		if err != nil || len(args) > 0 || time.Now().After(end) {
			return args, err
		}
		// What has ended, or is of the kernel, runs none.
		if _, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || !isIn(pid, namespace) {
			return nil, nil
		}
	}
}

// isIn tells whether a process is in a mount namespace. One of which that can't be known
// counts as if it were.
func isIn(pid int, namespace string) (is bool) {
	err := eachThread(pid, func(dir string) (bool, error) {
		got, err := os.Readlink(dir + "/ns/mnt")
		is = got == namespace
		return err == nil, err
	})
	return is || errors.Is(err, fs.ErrPermission)
}

// eachThread calls f with the directory of a process in /proc, and unless f has found what it
// looks for, with those of its other threads: they may outlive the first, which tells nothing then.
func eachThread(pid int, f func(dir string) (found bool, err error)) error {
	dir := "/proc/" + strconv.Itoa(pid)
	found, err := f(dir)
	if found || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	threads, failed := os.ReadDir(dir + "/task")
	if failed != nil || len(threads) < 2 {
		return err
	}
	for _, t := range threads {
		if found, _ := f(dir + "/task/" + t.Name()); found {
			return nil
		}
	}
	return err
}

// kill ends a process, which is told by its start from a later one of that
// number. One that has ended is no error, nor one that never was.
func kill(p host.Process) error {
	if p.PID == 0 {
		return nil
	}
	handle, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(handle)
	if !p.Alive() { // another has its number
		return nil
	}
	err = unix.PidfdSendSignal(handle, unix.SIGKILL, nil, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill client %d: %w", p.PID, err)
	}
	return nil
}
