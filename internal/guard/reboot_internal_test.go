package guard

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The kernel's own reboot, with files and a call that stand in for it.
func TestKernelReboot(t *testing.T) {
	open := func(name string) *os.File {
		f, err := os.Create(filepath.Join(t.TempDir(), name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	read := func(f *os.File) string {
		text, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	restarts := 0
	refused := errors.New("refused")
	k := &kernel{trigger: open("sysrq"), console: open("kmsg"), restart: func() error { restarts++; return refused }}
	if err := k.reboot(t.Context(), "volume a"); err != nil {
		t.Error(err)
	}
	if got := read(k.trigger); got != "b" || restarts != 0 {
		t.Errorf("got %q, and %d calls of reboot(2)", got, restarts)
	}
	if got := read(k.console); got != "<0>dvold guard: this host reboots: volume a\n" {
		t.Errorf("the console says %q", got)
	}

	k.trigger.Close() // a write fails
	if err := k.reboot(t.Context(), "volume a"); !errors.Is(err, refused) || restarts != 1 {
		t.Errorf("sysrq failed: got %v, and %d calls of reboot(2)", err, restarts)
	}
	k = &kernel{restart: k.restart}
	if err := k.reboot(t.Context(), "volume a"); !errors.Is(err, refused) || restarts != 2 {
		t.Errorf("without sysrq: got %v, and %d calls of reboot(2)", err, restarts)
	}
}

// A console that does not take its text must not keep the machine.
func TestSlowConsole(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	go func() { _, _ = writer.Write(bytes.Repeat([]byte("x"), 1<<20)) }() // fills it, and waits
	restarted := make(chan struct{})
	k := &kernel{console: writer, restart: func() error { close(restarted); return nil }}
	go func() { _ = k.reboot(t.Context(), "volume a") }()
	select {
	case <-restarted:
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for the console")
	}
}

func TestRebootCommandFails(t *testing.T) {
	dir := t.TempDir()
	command := filepath.Join(dir, "reboot")
	if err := os.WriteFile(command, []byte("#!/bin/sh\necho no, not $1\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := byCommand(command)(t.Context(), "now")
	if err == nil || !strings.Contains(err.Error(), "exit status 3: no, not now") {
		t.Errorf("got %v", err)
	}
	if err := byCommand(filepath.Join(dir, "missing"))(t.Context(), "now"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	// Without one it is the kernel's: nothing of it is called here.
	if r := newReboot("", slog.New(slog.DiscardHandler)); r.do == nil || r.cancel != nil {
		t.Errorf("got %+v", r)
	}
}
