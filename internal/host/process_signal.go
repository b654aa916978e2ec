package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// InHandler tells whether a thread of p runs a handler that p has for one of some signals:
// such a signal is blocked meanwhile, sigaction(2). So is one that a thread blocks by itself;
// the signals must be such that no thread of the program does. Of a process that has ended
// it is false.
func (p Process) InHandler(signals ...unix.Signal) (bool, error) {
	var asked uint64
	for _, s := range signals {
		asked |= 1 << (s - 1)
	}
	threads, err := filepath.Glob("/proc/" + strconv.Itoa(p.PID) + "/task/*/status")
	if err != nil {
		return false, err
	}
	in := false
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return false, err
		}
		blocked, err := signalSet(text, "SigBlk:")
		if err != nil {
			return false, err
		}
		caught, err := signalSet(text, "SigCgt:")
		if err != nil {
			return false, err
		}
		in = in || blocked&caught&asked != 0
	}
	return in && p.Alive(), nil
}

// signalSet is the set of signals on a line of /proc/PID/status; see proc_pid_status(5).
func signalSet(status []byte, name string) (uint64, error) {
	for line := range bytes.Lines(status) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			return strconv.ParseUint(string(bytes.TrimSpace(rest)), 16, 64)
		}
	}
	return 0, fmt.Errorf("parse process status: there is no %s", name)
}
