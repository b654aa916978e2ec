//go:build ceph && cgo

package rbd

import (
	"bytes"
	"context"
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

// inScope runs a client in a scope of its own; see systemd-run(1). A shutdown ends it
// after the engine, whose containers have its volumes, and before the network.
var inScope = [...]string{
	"systemd-run", "--scope", "--quiet", "--collect", "--slice=dvol-clients.slice",
	"--property=Before=docker.service", "--property=After=network.target", "--",
}

// started is a program that this process has started.
type started struct {
	host.Process
	said  *os.File
	ended chan struct{} // closed once it has
	err   error         // how it ended, then
}

// spawn starts a program that is to outlive dvold: it is no child of a control group
// that ends with it. Under systemd it has a scope of its own, elsewhere a session.
func spawn(argv []string) (*started, error) {
	if info, err := os.Lstat("/run/systemd/system"); err == nil && info.IsDir() { // sd_booted(3)
		argv = slices.Concat(inScope[:], argv)
	}
	said, err := os.CreateTemp("", "dvol-client")
	if err != nil {
		return nil, err
	}
	_ = os.Remove(said.Name()) // else it is one more file in a directory for such
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = said, said, "/"
	cmd.Env = []string{program.SearchPath}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		said.Close()
		return nil, err
	}
	s := &started{said: said, ended: make(chan struct{})}
	s.Process, err = host.FindProcess(cmd.Process.Pid) // it is not reaped yet
	go func() {
		s.err = cmd.Wait()
		close(s.ended)
	}()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, cmd.Process.Kill(), said.Close())
	}
	return s, nil
}

// output is the last line of what the program wrote.
func (s *started) output() string {
	text := make([]byte, 4096)
	n, _ := s.said.ReadAt(text, 0)
	lines := strings.Split(string(bytes.TrimSpace(text[:n])), "\n")
	return lines[len(lines)-1]
}

// processesOf returns the processes of a program that have an argument which is ours
// alone.
func processesOf(name, argument string) ([]host.Process, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var found []host.Process
	for _, number := range names {
		pid, err := strconv.Atoi(number)
		if err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + number + "/cmdline")
		if err != nil { // it has ended
			continue
		}
		args := strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
		if filepath.Base(args[0]) != name || !slices.Contains(args[1:], argument) {
			continue
		}
		p, err := host.FindProcess(pid)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, p)
	}
	return found, nil
}

// awaitEnd waits until a process has ended, for some time, and tells whether it has.
func awaitEnd(ctx context.Context, p host.Process, wait time.Duration) bool {
	limit, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for pause := time.Millisecond; p.Alive(); pause = min(2*pause, 50*time.Millisecond) {
		select {
		case <-time.After(pause):
		case <-limit.Done():
			return false
		}
	}
	return true
}

// kill ends a process, which is told by its start from a later one of that number. One
// that has ended is no error.
func kill(p host.Process) error {
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
