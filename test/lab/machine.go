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

// Machine is a machine that is up, down or frozen. It goes down by Kill, or by
// itself as [RebootCommand] has it. Its methods must not be called concurrently,
// except for those that run commands, dial, wait or read what it has.
type Machine struct {
	name     string // its host name
	group    string // its cgroups' name, which no other machine has
	dir      string // its disk; the same path inside and outside
	programs string // a directory that commands are looked for in first; may be empty

	port    *port     // its cable; nil if it has no network
	daemons []*Daemon // all there may be
	devices []*Device // what is attached to it

	entering sync.RWMutex // held for reading by whoever moves a process in
	frozen   bool         // guarded by entering

	mu   sync.Mutex // guards the fields below
	init *process   // PID 1; nil while the machine is down, or if another process owns it
	pid  int        // of PID 1, as this machine counts; 0 while the machine is down
}

// prepare puts onto the disk what the machine needs. What is in etc stands in
// for what this machine has in /etc.
func (m *Machine) prepare(hosts string) error {
	for _, dir := range []string{"run", "root", "tmp", "docker-cli", "etc", "etc/dvol", "etc/docker", "etc/lab"} {
		if err := os.Mkdir(m.Path(dir), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(m.Path("etc/lab/reboot"), []byte(rebootScript), 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"init.bash":      initScript,
		"daemon.json":    "{}",
		"etc/hostname":   m.name + "\n",
		"etc/hosts":      "127.0.0.1 localhost\n" + hosts,
		"etc/machine-id": strings.ReplaceAll(newID(), "-", ""),
	} {
		if err := os.WriteFile(m.Path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Boot starts PID 1 under a new boot ID and plugs the network in. /run is
// empty; no daemon is started. One that is up is an error.
func (m *Machine) Boot(ctx context.Context) error {
	if err := m.boot(ctx); err != nil {
		return fmt.Errorf("boot %s: %w", m.name, err)
	}
	return nil
}

func (m *Machine) boot(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if m.Up() {
		return errors.New("it is up")
	}
	if err := m.halt(); err != nil { // it may have gone down by itself
		return err
	}
	if err := m.remove("run"); err != nil {
		return err
	}
	if err := os.Mkdir(m.Path("run"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(m.Path("boot_id"), []byte(newID()), 0o444); err != nil {
		return err
	}
	if err := makeGroup(m.group); err != nil {
		return err
	}
	p, out, err := m.startInit()
	if err != nil {
		return err
	}
	m.setInit(p)
	if err := m.writeRecord(); err != nil {
		return err
	}
	ready := make(chan bool, 1)
	go func() { ready <- out.Scan() }()
	select {
	case ok := <-ready:
		if !ok {
			return errors.New(tail(p.log))
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if m.port == nil {
		return nil
	}
	return m.port.plug(ctx, m)
}

// startInit starts PID 1, and returns what it says.
func (m *Machine) startInit() (*process, *bufio.Scanner, error) {
	cmd := exec.Command("bash", m.Path("init.bash"), m.dir, m.name)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET,
	}
	// PID 1 reads its standard input to the end, which comes with ours. (A
	// parent-death signal comes when a mere thread of ours ends.)
	if _, err := cmd.StdinPipe(); err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	place, err := openPlace(m.group)
	if err != nil {
		return nil, nil, err
	}
	defer place.close()
	log, err := openLog(m.Path("init.log"))
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	// Its mounts are held until all of it has ended, however it does. Else its last process takes them away: one that serves
	// the disk of a file system, as rbd-fuse does, would then wait for itself to write the last of it, for ever.
	var mounts *os.File
	start := func() error {
		err := startThread(func() error { return place.start(cmd) })
		if err == nil {
			mounts, _ = os.Open(fmt.Sprintf("/proc/%d/ns/mnt", cmd.Process.Pid)) // or it has ended already
		}
		return err
	}
	p, err := startProcess(cmd, start, log, func() { _ = mounts.Close() })
	return p, bufio.NewScanner(out), err
}

func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x\n", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Kill ends every process at once, as a power cut would: nobody on the network
// hears of it. The disk is as it was (also what a real power cut would have
// lost, for lack of a sync). One that is down is left alone.
func (m *Machine) Kill() error {
	if err := m.halt(); err != nil {
		return fmt.Errorf("kill %s: %w", m.name, err)
	}
	return nil
}

// halt ends every process of the machine and what the kernel keeps for them.
func (m *Machine) halt() error {
	if m.process() == nil {
		return removeCgroups(m.group)
	}
	if m.port != nil {
		if err := m.port.unplug(); err != nil {
			return err
		}
	}
	m.entering.Lock()
	defer m.entering.Unlock()
	if m.frozen { // the dead don't wake up if they are dead before
		if err := killGroup(m.group); err != nil {
			return err
		}
		m.frozen = false
	}
	// PID 1 is the last to end, after everything else in its namespace.
	init := m.setInit(nil)
	if err := init.kill(); err != nil {
		m.setInit(init)
		return err
	}
	for _, d := range m.daemons {
		if err := d.forget(); err != nil {
			return err
		}
	}
	if err := m.detachAll(); err != nil {
		return err
	}
	if err := detachImages(m.dir); err != nil {
		return err
	}
	return removeCgroups(m.group)
}

// process is PID 1, also one that has ended by itself; nil once the machine was
// halted.
func (m *Machine) process() *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.init
}

// WaitDown waits until the machine has gone down.
func (m *Machine) WaitDown(ctx context.Context) error {
	init := m.process()
	if init == nil {
		return nil
	}
	select {
	case <-init.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for %s to go down: %w", m.name, context.Cause(ctx))
	}
}

// setInit replaces PID 1 and returns the one before.
func (m *Machine) setInit(p *process) *process {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.init
	m.init, m.pid = p, 0
	if p != nil {
		m.pid = p.pid()
	}
	return before
}

// Up tells whether the machine is up, or frozen.
func (m *Machine) Up() bool {
	_, err := m.initPID()
	return err == nil
}

// initPID is the process ID of PID 1 on this machine, for entering the other.
func (m *Machine) initPID() (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pid == 0 || m.init != nil && m.init.ended() {
		return 0, fmt.Errorf("%s is down", m.name)
	}
	return m.pid, nil
}

// Close ends the machine and removes every trace of it. A closed one is closed
// again without error.
func (m *Machine) Close() error {
	if err := m.halt(); err != nil {
		return fmt.Errorf("close %s: %w", m.name, err)
	}
	if err := m.remove("."); err != nil {
		return fmt.Errorf("close %s: %w", m.name, err)
	}
	return nil
}

// remove deletes a directory of the disk.
func (m *Machine) remove(name string) error { return removeUnmounted(m.Path(name)) }

// removeUnmounted deletes a directory, unless something is mounted in it: the
// machines' own mounts went with their namespaces, so that would be foreign.
func removeUnmounted(dir string) error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return err
	}
	if len(mounts) > 0 {
		return fmt.Errorf("%s is still mounted", mounts[0].Mountpoint)
	}
	return os.RemoveAll(dir)
}

// Name is the machine's host name.
func (m *Machine) Name() string { return m.name }

// Daemons are all that the machine may run.
func (m *Machine) Daemons() []*Daemon { return m.daemons }

// Path is where a file of the machine's disk lies, inside as outside. Its /run
// is Path("run"), its /etc is Path("etc").
func (m *Machine) Path(name string) string { return filepath.Join(m.dir, name) }

// Mounts returns the mountpoints of the machine that lie below dir.
func (m *Machine) Mounts(dir string) ([]string, error) {
	pid, err := m.initPID()
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return nil, fmt.Errorf("list mounts of %s: %w", m.name, err)
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, mountinfo.PrefixFilter(dir))
	if err != nil {
		return nil, fmt.Errorf("list mounts of %s: %w", m.name, err)
	}
	var points []string
	for _, mount := range mounts {
		if mount.Mountpoint != strings.TrimSuffix(dir, "/") {
			points = append(points, mount.Mountpoint)
		}
	}
	return points, nil
}
