package fuseclient

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host/hosttest"
)

// shell is a kind of client that is sh(1).
var shell = Kind{Program: "sh"}

// spawn starts a client that runs a script with the mountpoint as $0.
func spawn(t *testing.T, script, mountpoint string) *process {
	t.Helper()
	p, err := shell.spawn([]string{"-c", script, mountpoint})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = kill(p.Process)
		p.said.Close()
	})
	return p
}

// What a client has started is found and ended also if the client was gone before it was known.
func TestDiscardOfOneThatEndedAtOnce(t *testing.T) {
	hosttest.Root(t)
	dir := hosttest.Dir(t)
	mountpoint, fifo := hosttest.Subdir(t, dir, "at"), filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	child := spawn(t, "read never <"+fifo, mountpoint)
	gone := &process{ended: make(chan struct{})}
	close(gone.ended)
	if err := shell.discard(gone, mountpoint); err != nil {
		t.Error(err)
	}
	select {
	case <-child.ended:
	case <-time.After(10 * time.Second):
		t.Error("what it has started runs on")
	}
}

func TestOutput(t *testing.T) {
	p := spawn(t, "for i in 0 1 2 3 4 5 6 7 8 9; do printf %0999d 0; echo; done; echo why", "/nowhere")
	<-p.ended
	if got := p.output(); !strings.HasSuffix(got, "\nwhy") || len(got) > maxOutput {
		t.Errorf("got %d bytes, %q", len(got), got[max(0, len(got)-10):])
	}
}

// A process is found at any moment of execve(2).
func TestFoundWhileItExecs(t *testing.T) {
	hosttest.Root(t)
	point := filepath.Join(t.TempDir(), "at")
	p := spawn(t, `again='exec sh -c "$again" "$0"'; export again; exec sh -c "$again" "$0"`, point)
	for n := range 500 {
		if found, err := shell.At(point); err != nil || len(found) != 1 || found[0] != p.Process {
			t.Fatalf("look %d: got %v, %v, want %v", n, found, err, p.Process)
		}
	}
}

// What is started in a container is no client, whatever it is called.
func TestNoClientInAnotherMountNamespace(t *testing.T) {
	hosttest.Root(t)
	point := filepath.Join(t.TempDir(), "at")
	for _, test := range []struct {
		flags uintptr
		want  int
	}{{0, 1}, {unix.CLONE_NEWNS, 0}} {
		cmd := exec.Command("sh", "-c", "echo ready; read never", point)
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: test.flags}
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		hosttest.Start(t, cmd)
		if got, err := shell.At(point); err != nil || len(got) != test.want {
			t.Errorf("flags %#x: got %v, %v, want %d", test.flags, got, err, test.want)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// A client whose first thread has ended is one still.
func TestClientWithoutItsFirstThread(t *testing.T) {
	hosttest.Root(t)
	point := filepath.Join(t.TempDir(), "at")
	cmd := exec.Command(os.Args[0], point)
	cmd.Env = append(os.Environ(), "FIRST_THREAD=ends")
	hosttest.Start(t, cmd)
	got, err := Kind{Program: filepath.Base(os.Args[0])}.At(point)
	if err != nil || len(got) != 1 || got[0].PID != cmd.Process.Pid || !got[0].Alive() {
		t.Errorf("got %v, %v, want process %d", got, err, cmd.Process.Pid)
	}
}
