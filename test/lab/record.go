package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// recordFile holds a machine's record, on its disk.
const recordFile = "machine.json"

// record is what another process must know of a machine, to enter it or to
// clean up after its owner.
type record struct {
	Name     string `json:"name"`
	Group    string `json:"group"`
	Programs string `json:"programs,omitempty"`
	Init     ID     `json:"init"` // PID 1
}

// groupName is what machines' cgroups are called.
var groupName = regexp.MustCompile(`^lab[0-9a-f]+(-[a-z0-9]+)?$`)

// ID is a process that can't be mistaken for a later one.
type ID struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"` // in clock ticks after boot
}

// ProcessID identifies a process that runs. One that has ended doesn't, even if
// nobody has taken note yet.
func ProcessID(pid int) (ID, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ID{}, err
	}
	// The command's name, in parentheses, may contain anything.
	_, after, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), " ")
	fields := strings.Fields(after)
	const started = 22 - 3 // it is the 22nd field, and the first after the name is the 3rd
	if len(fields) <= started {
		return ID{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return ID{}, fmt.Errorf("process %d has ended", pid)
	}
	ticks, err := strconv.ParseUint(fields[started], 10, 64)
	return ID{pid, ticks}, err
}

// Runs tells whether the process still is there.
func (id ID) Runs() bool {
	now, err := ProcessID(id.PID)
	return err == nil && now == id
}

// Kill ends the process at once and waits until it is gone. One that is gone is
// left alone, whoever has its number now.
func (id ID) Kill() error {
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kill process %d: %w", id.PID, err)
	}
	defer unix.Close(fd)
	if !id.Runs() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", id.PID, err)
	}
	const patience = 30 * time.Second
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		events := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(events, int(time.Until(deadline).Milliseconds())); n > 0 {
			return nil
		} else if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("kill process %d: %w", id.PID, err)
		}
	}
	return fmt.Errorf("process %d still there %v after SIGKILL", id.PID, patience)
}

// writeRecord records the machine, which has just been started.
func (m *Machine) writeRecord() error {
	pid, err := m.initPID()
	if err != nil {
		return err
	}
	id, err := ProcessID(pid)
	if err != nil {
		return err
	}
	text, err := json.Marshal(record{Name: m.name, Group: m.group, Programs: m.programs, Init: id})
	if err != nil {
		return err
	}
	file := m.Path(recordFile)
	if err := os.WriteFile(file+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// readRecord reads the record of the machine whose disk is dir.
func readRecord(dir string) (r record, err error) {
	text, err := os.ReadFile(filepath.Join(dir, recordFile))
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("%s: %w", filepath.Join(dir, recordFile), err)
	}
	// What has this name is killed.
	if !groupName.MatchString(r.Group) || r.Init.PID <= 1 {
		return r, fmt.Errorf("%s is no record of a machine", filepath.Join(dir, recordFile))
	}
	return r, nil
}

// Open returns a machine that belongs to another process, of the cluster in
// dir, for running commands in it and nothing else. One that is down has no
// PID 1, and runs none.
func Open(dir, name string) (*Machine, error) {
	disk := filepath.Join(dir, name)
	if name == "" || strings.Contains(name, "/") {
		return nil, fmt.Errorf("%q is no name of a machine", name)
	}
	r, err := readRecord(disk)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no machine %s in %s", name, dir)
	}
	if err != nil {
		return nil, err
	}
	m := &Machine{name: r.Name, group: r.Group, dir: disk, programs: r.Programs}
	if r.Init.Runs() {
		m.pid = r.Init.PID
	}
	frozen, err := isFrozen(r.Group)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	m.frozen = frozen
	return m, nil
}

// Clean removes what a cluster in dir, or hosts with dir as their parent, have
// left behind whose owner has died: it ends the processes that are recorded
// there and removes their cgroups and the directory. What isn't there is left
// alone.
func Clean(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*", recordFile))
	if err != nil {
		return fmt.Errorf("clean %s: %w", dir, err)
	}
	err = each(files, func(file string) error {
		r, err := readRecord(filepath.Dir(file))
		if err != nil {
			return err
		}
		if err := killGroup(r.Group); err != nil { // also the frozen
			return err
		}
		if err := r.Init.Kill(); err != nil {
			return err
		}
		if err := detachImages(filepath.Dir(file)); err != nil {
			return err
		}
		return removeCgroups(r.Group)
	})
	if err == nil {
		err = removeUnmounted(dir)
	}
	if err != nil {
		return fmt.Errorf("clean %s: %w", dir, err)
	}
	return nil
}
