package fuseclient

import (
	"path/filepath"
	"strings"
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
