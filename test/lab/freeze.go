package lab

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// All processes of a machine but containers live in one cgroup, containers
// beside it, so that what is above them all can be frozen.
const leaf = "machine"

// The ways to freeze a cgroup: the file, what freezes, what thaws, and where
// the kernel says which it is, and which it is to be.
type freezer struct {
	root               string
	file, freeze, thaw string
	state, frozen      string
	wanted             string // the file that says 1 from when it is to be frozen
	thread             string // the file that moves a thread; empty if only processes can be
}

// findFreezer finds what this kernel offers.
func findFreezer() (freezer, error) {
	one := freezer{filepath.Join(cgroupRoot, "freezer"), "freezer.state", "FROZEN", "THAWED", "freezer.state", "FROZEN", "freezer.self_freezing", "tasks"}
	if _, err := os.Stat(one.root); err == nil {
		return one, nil
	}
	two := freezer{cgroupRoot, "cgroup.freeze", "1", "0", "cgroup.events", "frozen 1", "cgroup.freeze", ""}
	if _, err := os.Stat(filepath.Join(two.root, "cgroup.controllers")); err == nil {
		return two, nil
	}
	return freezer{}, errors.New("no cgroup can be frozen here: neither a freezer of version 1 nor version 2")
}

// makeGroup makes the cgroup that a machine's processes are to live in.
func makeGroup(group string) error {
	f, err := findFreezer()
	if err != nil {
		return err
	}
	return os.MkdirAll(filepath.Join(f.root, group, leaf), 0o755)
}

// place is a cgroup that processes are started in. It was opened before its
// user went to where the file system is another.
type place struct {
	into, home *os.File // home is nil for version 2
}

// openPlace opens the cgroup of a machine.
func openPlace(group string) (*place, error) {
	f, err := findFreezer()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(f.root, group, leaf)
	if f.thread == "" {
		into, err := os.Open(dir)
		return &place{into: into}, err
	}
	home, err := f.home()
	if err != nil {
		return nil, err
	}
	into, err := os.OpenFile(filepath.Join(dir, f.thread), os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	back, err := os.OpenFile(filepath.Join(home, f.thread), os.O_WRONLY, 0)
	if err != nil {
		into.Close()
		return nil, err
	}
	return &place{into, back}, nil
}

func (p *place) close() {
	p.into.Close()
	if p.home != nil {
		p.home.Close()
	}
}

// start starts a command in the cgroup, from the calling thread.
func (p *place) start(cmd *exec.Cmd) error {
	if p.home == nil {
		if cmd.SysProcAttr == nil {
			cmd.SysProcAttr = new(syscall.SysProcAttr)
		}
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(p.into.Fd())
		return cmd.Start()
	}
	// The thread has to be back before anybody may freeze the cgroup: this
	// process doesn't get far without it.
	const thisThread = "0"
	if _, err := p.into.WriteString(thisThread); err != nil {
		return err
	}
	err := cmd.Start()
	_, back := p.home.WriteString(thisThread)
	return errors.Join(err, back)
}

// home is the cgroup of version 1 that this process is in.
func (f freezer) home() (string, error) {
	all, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(all)) {
		if _, path, ok := strings.Cut(strings.TrimSpace(line), ":freezer:"); ok {
			return filepath.Join(f.root, path), nil
		}
	}
	return "", errors.New("this process is in no freezer cgroup")
}

// setFrozen freezes or thaws a cgroup and all below it, and waits until it is,
// or until nothing runs in it.
//
// A thread that waits for a file system's answer does not freeze before it has
// that; nor does the cgroup, which may be for ever if who is to answer is frozen
// or cut off. But the thread freezes before it is back in its program.
func setFrozen(group string, freeze bool) error {
	f, err := findFreezer()
	if err != nil {
		return err
	}
	dir := filepath.Join(f.root, group)
	word := f.thaw
	if freeze {
		word = f.freeze
	}
	const patience = 10 * time.Second
	const enough = 20
	quiet := 0 // how many times in a row nothing ran
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		// Again each time: version 1 gives up on a process that was being made.
		if err := os.WriteFile(filepath.Join(dir, f.file), []byte(word), 0); err != nil {
			return err
		}
		state, err := os.ReadFile(filepath.Join(dir, f.state))
		if err != nil {
			return err
		}
		if bytes.Contains(state, []byte(f.frozen)) == freeze {
			return nil
		}
		if freeze {
			running, err := runs(dir)
			if err != nil {
				return err
			}
			if quiet++; running {
				quiet = 0
			}
			if quiet == enough {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("cgroup %s is %q %v after %s was written", dir, bytes.TrimSpace(state), patience, word)
		}
	}
}

// runs tells whether a thread of a cgroup and below it runs or is about to.
func runs(top string) (bool, error) {
	pids, err := members(top)
	if err != nil {
		return false, err
	}
	for _, pid := range pids {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*/stat", pid))
		if err != nil {
			return false, err
		}
		for _, file := range threads {
			text, err := os.ReadFile(file)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
				continue
			}
			if err != nil {
				return false, err
			}
			_, after, _ := bytes.Cut(text[bytes.LastIndexByte(text, ')')+1:], []byte(" "))
			if bytes.HasPrefix(after, []byte("R")) {
				return true, nil
			}
		}
	}
	return false, nil
}

// isFrozen tells whether a cgroup is frozen, but for what setFrozen says.
func isFrozen(group string) (bool, error) {
	f, err := findFreezer()
	if err != nil {
		return false, err
	}
	wanted, err := os.ReadFile(filepath.Join(f.root, group, f.wanted))
	return strings.TrimSpace(string(wanted)) == "1", err
}

// killGroup kills every process of a cgroup and below, frozen or not, such that
// none runs on for a moment. One that isn't there is left alone.
func killGroup(group string) error {
	f, err := findFreezer()
	if err != nil {
		return err
	}
	top := filepath.Join(f.root, group)
	if _, err := os.Stat(top); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	const patience = 30 * time.Second
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		pids, err := members(top)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
		// They are dead as soon as they run.
		if err := setFrozen(group, false); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v still there %v after SIGKILL", pids, patience)
		}
	}
}

// members lists the processes of a cgroup and of those below it.
func members(top string) ([]int, error) {
	dirs, err := tree(top)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, dir := range dirs {
		list, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENODEV) {
			return nil, err
		}
		for field := range strings.FieldsSeq(string(list)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return nil, err
			}
			if pid != 0 { // of a namespace that isn't seen from here
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// Freeze stops every process of the machine, containers included: it keeps its
// connections and answers nothing any more. Frozen again, it stays so.
func (m *Machine) Freeze() error { return m.setFrozen(true) }

// Thaw lets a frozen machine go on. One that isn't frozen is left alone.
func (m *Machine) Thaw() error { return m.setFrozen(false) }

// Frozen tells whether the machine is frozen.
func (m *Machine) Frozen() bool {
	m.entering.RLock()
	defer m.entering.RUnlock()
	return m.frozen
}

func (m *Machine) setFrozen(freeze bool) error {
	m.entering.Lock()
	defer m.entering.Unlock()
	what := "thaw"
	if freeze {
		what = "freeze"
	}
	if !m.Up() {
		return fmt.Errorf("%s %s: it is down", what, m.name)
	}
	if err := setFrozen(m.group, freeze); err != nil {
		return fmt.Errorf("%s %s: %w", what, m.name, err)
	}
	m.frozen = freeze
	return nil
}
