package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Exec runs a command in the host and returns what it prints to standard
// output, without the white space around it. If it fails, the error has what it
// printed to standard error.
func (h *Host) Exec(ctx context.Context, argv ...string) (string, error) {
	cmd := h.command(ctx, argv...)
	return h.run(cmd)
}

// command returns a command that is to be started by h.start.
func (h *Host) command(ctx context.Context, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = time.Second
	cmd.Env = []string{ // no more, for others change what docker and dvold do
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + h.Path("tmp"),
		"TMPDIR=" + h.Path("tmp"),
		"DOCKER_HOST=unix://" + dockerSocket,
		"DOCKER_CONFIG=" + h.Path("docker-cli"),
		"DOCKER_BUILDKIT=0", // the engine is older than the command
		"GORACE=log_path=" + h.Path("race") + " atexit_sleep_ms=10",
	}
	return cmd
}

func (h *Host) run(cmd *exec.Cmd) (string, error) {
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := h.start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("run %s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return strings.TrimSpace(out.String()), err
}

// start starts cmd in the namespaces of the host.
//
// A thread that has entered them can't come back. So it is one of its own,
// locked to a goroutine and ended together with it.
func (h *Host) start(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != unix.Getpid() {
			result <- h.enterAndStart(cmd)
			return
		}
		// The first thread stands for the process in /proc and never ends:
		// keep it occupied while another is taken.
		result <- h.start(cmd)
		runtime.UnlockOSThread()
	}()
	return <-result
}

// enterAndStart moves the calling thread into the host and starts cmd from it.
func (h *Host) enterAndStart(cmd *exec.Cmd) error {
	pid, err := h.initPID()
	if err != nil {
		return err
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("enter host %s: %w", h.name, err)
	}
	defer unix.Close(pidfd)
	// Threads share their root and working directory, which belong to a mount
	// namespace.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("enter host %s: %w", h.name, err)
	}
	const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET
	if err := unix.Setns(pidfd, namespaces); err != nil {
		return fmt.Errorf("enter host %s: %w", h.name, err)
	}
	return cmd.Start()
}
