package host_test

import (
	"errors"
	"io/fs"
	"os"
	"regexp"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
)

func TestBootID(t *testing.T) {
	first, err := host.BootID()
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(first) {
		t.Errorf("got %q", first)
	}
	if second, err := host.BootID(); err != nil || second != first {
		t.Errorf("got %q, %v, want %q again", second, err, first)
	}
}

func TestProcess(t *testing.T) {
	child := startChild(t, false, "wait")
	p, err := host.FindProcess(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Alive() {
		t.Error("a running process counts as dead")
	}
	if later := (host.Process{PID: p.PID, Start: p.Start + 1}); later.Alive() {
		t.Error("another process of the same number counts as alive")
	}
	if own, err := host.FindProcess(os.Getpid()); err != nil || own.Start > p.Start {
		t.Errorf("own start %d, child's %d, %v", own.Start, p.Start, err)
	}

	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Waitid(unix.P_PID, p.PID, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"zombie", "gone"} {
		if p.Alive() {
			t.Errorf("%s: counts as alive", state)
		}
		if _, err := host.FindProcess(p.PID); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want %v", state, err, fs.ErrNotExist)
		}
		_ = child.Wait() // reports the kill
	}
}

// To proc(5) it looks like a zombie, yet it can still write.
func TestProcessWithoutItsFirstThread(t *testing.T) {
	child := startChild(t, false, "end-first-thread")
	p, err := host.FindProcess(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Alive() {
		t.Error("counts as dead")
	}
}
