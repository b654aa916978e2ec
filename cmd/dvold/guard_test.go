package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/guard"
	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/test/lab"
)

// guardWorld is a world, the program as it is shipped, and the book of the world's guard.
func guardWorld(t *testing.T) (w *world, binary string, book *guard.Book) {
	t.Helper()
	hosttest.Root(t)
	w = newWorld(t)
	binary, err := lab.BuildDvold(w.dir, false)
	if err == nil {
		book, err = guard.OpenBook(w.path("run/guard"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return w, binary, book
}

// The guard as it is shipped: a process of its own, which tells systemd when it
// is ready, and counts as dvold's guard then.
func TestGuardCommand(t *testing.T) {
	w, binary, book := guardWorld(t)
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: w.path("notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	command := exec.Command(binary, "guard", "--run-dir", w.path("run"), "--guard-reboot-command", "/bin/false")
	command.Env = append(os.Environ(), "NOTIFY_SOCKET="+w.path("notify"))
	var said strings.Builder
	command.Stderr = &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill() })
	if err := systemd.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	state := make([]byte, 100)
	n, err := systemd.Read(state)
	if err != nil || string(state[:n]) != "READY=1" {
		t.Fatalf("systemd was told %q: %v", state[:n], err)
	}
	if err := book.Unguarded(); err != nil {
		t.Error(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", command.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("in memory: %q", regexp.MustCompile(`(?m)^(VmLck|VmRSS|RssAnon|RssFile):.*$`).FindAllString(string(status), -1))
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil {
		t.Errorf("it ended with %v: %s", err, said.String())
	}
	if book.Guarded() || !strings.Contains(said.String(), "guard started") {
		t.Errorf("guarded: %v; it said %s", book.Guarded(), said.String())
	}
}

func TestGuardsMistakes(t *testing.T) {
	w := newWorld(t)
	err := run(t.Context(), []string{"guard", "x"}, t.Output(), t.Output())
	if exitCode(err) != 2 {
		t.Errorf("guard x: %v, want exit code 2", err)
	}
	for _, wrong := range [][]string{{"--guard-cut-time", "0"}, {"--guard-watchdog", "watchdog"}, {"--config", w.path("missing")}} {
		err := run(t.Context(), append([]string{"guard"}, wrong...), t.Output(), t.Output())
		if err == nil || errors.As(err, new(usageError)) {
			t.Errorf("guard %v: %v", wrong, err)
		}
	}
	// A program that others could change is not run as root.
	open := w.path("reboot")
	if err := os.WriteFile(open, []byte("#!/bin/false\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"serve"}, {"config", "check"}} {
		for _, program := range []string{open, w.path("missing")} {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			args := append(command, "--guard-reboot-command", program, "--run-dir", w.path("run"), "--state-dir", w.path("state"))
			if err := run(ctx, args, t.Output(), t.Output()); err == nil || !strings.Contains(err.Error(), "guard.reboot_command: ") {
				t.Errorf("%v: %v", args, err)
			}
		}
	}
}

// Others rely on there being a guard, with whatever reboot.
func TestGuardWithoutItsRebootCommand(t *testing.T) {
	w, binary, book := guardWorld(t)
	command := exec.Command(binary, "guard", "--run-dir", w.path("run"), "--guard-reboot-command", w.path("missing")) // it is given nothing to cut
	var said strings.Builder
	command.Stderr = &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill() })
	for end := time.Now().Add(10 * time.Second); !book.Guarded(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it is no guard: %v", book.Unguarded())
		}
	}
	if err := errors.Join(command.Process.Signal(syscall.SIGTERM), command.Wait()); err != nil || !strings.Contains(said.String(), "the kernel's own reboot") {
		t.Errorf("it ended with %v, and said %s", err, said.String())
	}
}
