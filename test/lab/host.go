package lab

import (
	"bufio"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/moby/sys/mountinfo"
)

//go:embed init.bash
var initScript string

// Options adjust a Host.
type Options struct {
	// Dvold is the dvold binary, for StartDvold.
	Dvold string
	// Parent is the directory that the host's own is made in; empty means
	// the one for temporary files.
	Parent string
}

// Host is a test host. Its methods must not be called concurrently, except for
// those that run commands or read what the host has.
type Host struct {
	name  string
	dir   string // its disk; the same path inside and outside
	dvold string // the binary

	docker *process // nil unless started
	daemon *process // dvold; nil unless started

	mu   sync.Mutex // guards the field below
	init *process   // PID 1; nil while the host is down
}

// New boots a host, without dockerd and dvold. Close it, also if ctx ended.
func New(ctx context.Context, o Options) (*Host, error) {
	dir, err := os.MkdirTemp(o.Parent, "lab")
	if err != nil {
		return nil, fmt.Errorf("make host: %w", err)
	}
	h := &Host{name: filepath.Base(dir), dir: dir, dvold: o.Dvold}
	if err := h.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("make host %s: %w", h.name, err), h.Close())
	}
	if err := h.boot(ctx); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// prepare puts onto the disk what the host needs.
func (h *Host) prepare() error {
	for _, dir := range []string{"run", "empty", "tmp", "docker-cli"} {
		if err := os.Mkdir(h.Path(dir), 0o755); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{"init.bash": initScript, "daemon.json": "{}"} {
		if err := os.WriteFile(h.Path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// boot starts PID 1 under a new boot ID.
func (h *Host) boot(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("boot host %s: %w", h.name, err)
	}
	if err := os.WriteFile(h.Path("boot_id"), []byte(newBootID()), 0o444); err != nil {
		return fmt.Errorf("boot host %s: %w", h.name, err)
	}
	cmd := exec.Command("bash", h.Path("init.bash"), h.dir, h.name)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET,
	}
	// PID 1 reads its standard input to the end, which comes with ours. (A
	// parent-death signal comes when a mere thread of ours ends.)
	_, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("boot host %s: %w", h.name, err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("boot host %s: %w", h.name, err)
	}
	p, err := startProcess(cmd, cmd.Start, h.Path("init.log"))
	if err != nil {
		return fmt.Errorf("boot host %s: %w", h.name, err)
	}
	h.setInit(p)
	ready := make(chan bool, 1)
	go func() { ready <- bufio.NewScanner(out).Scan() }()
	select {
	case ok := <-ready:
		if ok {
			return nil
		}
		err = errors.New(tail(p.log))
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return fmt.Errorf("boot host %s: %w", h.name, err)
}

func newBootID() string {
	var b [16]byte
	rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x\n", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Reboot ends every process of the host at once, as a reset would, and boots
// it again: the disk is as it was (also what a real one would have lost, for
// lack of a sync), /run is empty, the boot ID is new, and dockerd and dvold are
// not started.
func (h *Host) Reboot(ctx context.Context) error {
	if err := h.halt(); err != nil {
		return fmt.Errorf("reboot host %s: %w", h.name, err)
	}
	if err := h.remove("run"); err != nil {
		return fmt.Errorf("reboot host %s: %w", h.name, err)
	}
	if err := os.Mkdir(h.Path("run"), 0o755); err != nil {
		return fmt.Errorf("reboot host %s: %w", h.name, err)
	}
	return h.boot(ctx)
}

// halt ends every process of the host and what the kernel keeps for them.
func (h *Host) halt() error {
	// PID 1 is the last to end, after everything else in its namespace.
	init := h.setInit(nil)
	for _, p := range []*process{init, h.docker, h.daemon} {
		if p == nil {
			continue
		}
		if err := p.kill(); err != nil {
			h.setInit(init)
			return err
		}
	}
	h.docker, h.daemon = nil, nil
	return removeCgroups(h.name)
}

// setInit replaces PID 1 and returns the one before.
func (h *Host) setInit(p *process) *process {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.init
	h.init = p
	return before
}

// initPID is the machine's process ID of PID 1, for entering the host.
func (h *Host) initPID() (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.init == nil {
		return 0, fmt.Errorf("host %s is down", h.name)
	}
	return h.init.pid(), nil
}

// Close ends the host and removes every trace of it. A closed host is closed
// again without error.
func (h *Host) Close() error {
	if err := h.halt(); err != nil {
		return fmt.Errorf("close host %s: %w", h.name, err)
	}
	if err := h.remove("."); err != nil {
		return fmt.Errorf("close host %s: %w", h.name, err)
	}
	return nil
}

// remove deletes a directory of the disk, unless something is mounted in it:
// the host's own mounts went with its namespace, so that would be foreign.
func (h *Host) remove(name string) error {
	dir := h.Path(name)
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return err
	}
	if len(mounts) > 0 {
		return fmt.Errorf("%s is still mounted", mounts[0].Mountpoint)
	}
	return os.RemoveAll(dir)
}

// Name is the host's name.
func (h *Host) Name() string { return h.name }

// Path is where a file of the host's disk lies, inside the host as outside.
// Its /run is Path("run").
func (h *Host) Path(name string) string { return filepath.Join(h.dir, name) }

// Mounts returns the mountpoints of the host that lie below dir.
func (h *Host) Mounts(dir string) ([]string, error) {
	pid, err := h.initPID()
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return nil, fmt.Errorf("list mounts of host %s: %w", h.name, err)
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, mountinfo.PrefixFilter(dir))
	if err != nil {
		return nil, fmt.Errorf("list mounts of host %s: %w", h.name, err)
	}
	var points []string
	for _, m := range mounts {
		if m.Mountpoint != strings.TrimSuffix(dir, "/") {
			points = append(points, m.Mountpoint)
		}
	}
	return points, nil
}

// Logs returns what dockerd and dvold have logged.
func (h *Host) Logs() string { return h.logsSince(nil) }

// logSizes tells how much each daemon has logged so far.
func (h *Host) logSizes() map[string]int64 {
	sizes := make(map[string]int64)
	for _, name := range []string{dockerLog, dvoldLog} {
		if fi, err := os.Stat(h.Path(name)); err == nil {
			sizes[name] = fi.Size()
		}
	}
	return sizes
}

// logsSince returns what the daemons have logged after sizes were taken.
func (h *Host) logsSince(sizes map[string]int64) string {
	var s strings.Builder
	for _, name := range []string{dockerLog, dvoldLog} {
		b, err := os.ReadFile(h.Path(name))
		if err != nil {
			continue // never started
		}
		fmt.Fprintf(&s, "--- %s of %s ---\n%s", name, h.name, b[sizes[name]:])
	}
	return s.String()
}
