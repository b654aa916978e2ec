package host

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Process is a process of this boot, told by its start from a later one that
// has the same number.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot
}

// BootID returns the identity of this boot of the kernel.
func BootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot ID: %w", err)
	}
	return string(bytes.TrimSpace(id)), nil
}

// FindProcess returns the process that has the number pid now. If there is
// none, or only a zombie, the error is [fs.ErrNotExist].
func FindProcess(pid int) (Process, error) {
	st, err := readStat(pid)
	if errors.Is(err, unix.ESRCH) || err == nil && st.dead {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Process{}, fmt.Errorf("find process %d: %w", pid, err)
	}
	return Process{PID: pid, Start: st.start}, nil
}

// Alive tells whether any thread of p still exists that is not a zombie. Where
// that cannot be found out, p counts as alive.
func (p Process) Alive() bool {
	st, err := readStat(p.PID)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH)
	}
	return st.start == p.Start && !st.dead
}

// IsChild tells whether this process has started pid, which it has not waited for yet.
func IsChild(pid int) bool {
	st, err := readStat(pid)
	return err == nil && st.parent == os.Getpid()
}

// stat is what matters of /proc/PID/stat.
type stat struct {
	dead   bool
	parent int
	start  uint64
}

func readStat(pid int) (stat, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	return parseStat(text)
}

// parseStat parses the text of /proc/PID/stat; see proc(5). The command in
// its second field may contain spaces and brackets, so what follows is found
// from the last bracket.
func parseStat(text []byte) (stat, error) {
	end := bytes.LastIndexByte(text, ')')
	fields := bytes.Fields(text[end+1:])
	const first = 3 // number of the field in fields[0]
	if end < 0 || len(fields) <= 22-first {
		return stat{}, fmt.Errorf("parse process status %q: too short", text)
	}
	parent, wrong := strconv.Atoi(string(fields[4-first]))
	start, err := strconv.ParseUint(string(fields[22-first]), 10, 64)
	if err := cmp.Or(wrong, err); err != nil {
		return stat{}, fmt.Errorf("parse process status: %w", err)
	}
	// A process whose first thread has ended looks like a zombie while others
	// run; field 20 counts them.
	state, threads := string(fields[0]), string(fields[20-first])
	dead := (state == "Z" || state == "X") && (threads == "0" || threads == "1")
	return stat{dead: dead, parent: parent, start: start}, nil
}
