package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// allNamespaces are those that a machine has of its own.
const allNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET

// ErrFrozen means that a machine can start nothing, for it is frozen.
var ErrFrozen = errors.New("machine is frozen")

// Exec runs a command in the machine and returns what it prints to standard
// output, without the white space around it. If it fails, the error has what it
// printed to standard error.
func (m *Machine) Exec(ctx context.Context, argv ...string) (string, error) {
	return run(m.Command(ctx, argv...), m.Start)
}

// Command returns a command that is to be started by Start, with nothing of
// this process's environment but the PATH.
func (m *Machine) Command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, m.program(argv[0]), argv[1:]...)
	cmd.Args[0] = argv[0]
	cmd.WaitDelay = time.Second
	cmd.Env = []string{ // no more, for others change what docker and dvold do
		"PATH=" + strings.TrimPrefix(m.programs+":"+os.Getenv("PATH"), ":"),
		"HOME=" + m.Path("tmp"),
		"TMPDIR=" + m.Path("tmp"),
		"DOCKER_HOST=unix://" + dockerSocket,
		"DOCKER_CONFIG=" + m.Path("docker-cli"),
		"DOCKER_BUILDKIT=0", // the engine is older than the command
		"GORACE=log_path=" + m.Path("race") + " atexit_sleep_ms=10",
	}
	if run, ok := os.LookupEnv(testRun); ok {
		cmd.Env = append(cmd.Env, testRun+"="+run)
	}
	return cmd
}

// testRun tells which processes tests have left behind.
const testRun = "DVOLD_TEST_RUN"

// program finds a command in the machine's own programs, else leaves that to
// the PATH.
func (m *Machine) program(name string) string {
	own := filepath.Join(m.programs, name)
	if _, err := os.Stat(own); m.programs != "" && !strings.Contains(name, "/") && err == nil {
		return own
	}
	return name
}

func run(cmd *exec.Cmd, start func(*exec.Cmd) error) (string, error) {
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("run %s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return strings.TrimSpace(out.String()), err
}

// Start starts a command that Command made, in the machine. The caller waits
// for it, all the time: until he has noticed its end, Kill does not end. A frozen
// machine starts nothing: ErrFrozen.
func (m *Machine) Start(cmd *exec.Cmd) error {
	m.entering.RLock()
	defer m.entering.RUnlock()
	if m.frozen {
		return fmt.Errorf("enter %s: %w", m.name, ErrFrozen)
	}
	if !m.Up() {
		return fmt.Errorf("enter %s: it is down", m.name)
	}
	place, err := openPlace(m.group)
	if err != nil {
		return fmt.Errorf("enter %s: %w", m.name, err)
	}
	defer place.close()
	return m.inside(allNamespaces, func() error { return place.start(cmd) })
}

// startOutside starts a command that the machine doesn't know of, although it
// has the machine's network: frozen or not.
func (m *Machine) startOutside(cmd *exec.Cmd) error {
	return m.inside(unix.CLONE_NEWNET, cmd.Start)
}

// Dial connects to a service from inside the machine. The address is an IP
// address and a port.
func (m *Machine) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = m.inside(unix.CLONE_NEWNET, func() error {
		var d net.Dialer // it stays on this thread, for there is but one address
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// httpClient sends HTTP requests from inside the machine.
func (m *Machine) httpClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: m.Dial, DisableKeepAlives: true}}
}

// inside calls do on a thread in the given namespaces of the machine.
func (m *Machine) inside(namespaces int, do func() error) error {
	return startThread(func() error {
		if err := m.enter(namespaces); err != nil {
			return fmt.Errorf("enter %s: %w", m.name, err)
		}
		return do()
	})
}

// startThread calls do on a thread that may be changed for good.
//
// A thread that has entered namespaces can't come back. So it is one of its
// own, locked to a goroutine and ended together with it.
func startThread(do func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			result <- do()
			return
		}
		// The first thread stands for the process in /proc and never ends:
		// keep it occupied while another is taken.
		result <- startThread(do)
		runtime.UnlockOSThread()
	}()
	return <-result
}

// enter moves the calling thread into namespaces of the machine.
func (m *Machine) enter(namespaces int) error {
	pid, err := m.initPID()
	if err != nil {
		return err
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	if namespaces&unix.CLONE_NEWNS != 0 {
		// Threads share their root and working directory, which belong to a
		// mount namespace.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
	}
	return unix.Setns(pidfd, namespaces)
}
