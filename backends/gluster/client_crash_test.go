package gluster_test

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// A client that has crashed, and hangs in its handler, is killed, and what it served is served by the next. It hangs for it
// can't write to its log, a pipe that is full; in the wild, for a lock that it had. One that is well is left alone.
func TestClientHangsInItsCrash(t *testing.T) {
	p := newPool(t, nil)
	name := filepath.Join(p.run, "dvol-pool-gv0.log")
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(name, os.O_RDWR|unix.O_NONBLOCK, 0) // so that no writer waits for a reader
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	target := p.mount(p.create("data"), backends.MountOptions{})
	dead := p.wantClients(1)[0]
	own := p.mount(p.create("other"), backends.MountOptions{Alone: true})
	both := p.wantClients(2)
	p.write(target, "before")

	fill(t, log)
	if err := unix.Kill(dead.PID, unix.SIGABRT); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	time.Sleep(3 * time.Second)
	if !dead.Alive() {
		t.Fatal("the client did not hang")
	}
	p.eventually("the client is killed", func() bool { return !dead.Alive() })
	t.Logf("it was killed after %v", time.Since(begin).Round(time.Second))
	go func() { _, _ = io.Copy(io.Discard, log) }()
	p.eventually("it is served again", func() bool {
		text, err := os.ReadFile(filepath.Join(target, "file"))
		return err == nil && string(text) == "before"
	})
	p.write(target, "after")
	p.write(own, "well")
	left := slices.DeleteFunc(p.wantClients(2), func(c host.Process) bool { return !slices.Contains(both, c) })
	if len(left) != 1 || left[0] == dead {
		t.Errorf("of clients %v there are %v", both, left)
	}
}

// fill has whoever writes to a pipe wait.
func fill(t *testing.T, pipe *os.File) {
	t.Helper()
	raw, err := pipe.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var full error
	err = raw.Control(func(fd uintptr) {
		for ; full == nil; _, full = unix.Write(int(fd), make([]byte, 512)) {
		}
	})
	if err != nil || full != unix.EAGAIN {
		t.Fatal(err, full)
	}
}
