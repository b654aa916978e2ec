//go:build ceph && cgo

package rbd_test

import (
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// Where nothing was mounted, and something has the device all the same, as a mount or a check does that
// hangs, the volume is not let go of: what has it may write yet. Its client is ended if it is fenced.
func TestUnmountWhileDeviceIsHad(t *testing.T) {
	if mapper() != "fuse" {
		t.Skip("the kernel's client does not ask for the lock again")
	}
	p := newPool(t, nil)
	handle := p.create("db")
	identity := p.connect(handle)
	target := hosttest.Subdir(t, p.run, "mnt")
	mapped := p.mapped()
	if len(mapped) != 1 {
		t.Fatalf("mapped as %q", mapped)
	}
	check, err := os.OpenFile(mapped[0], os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer check.Close()
	for range 2 {
		if err := p.Unmount(t.Context(), handle, target); !errors.Is(err, backends.ErrInUse) {
			t.Errorf("unmount: got %v, want ErrInUse", err)
		}
	}
	if err := inNamespace(t, p.config.Namespace, nil).Fence(t.Context(), victim(handle, identity)); err != nil {
		t.Fatal(err)
	}
	p.wantNoClient()
	check.Close()
	p.unmount(handle, target)
	if got := p.mapped(); len(got) != 0 {
		t.Errorf("unmounted, and mapped as %q", got)
	}
}

// What was unmounted may have copies in other mount namespaces: the call may be repeated, its client is ended if it is
// fenced, and what is mapped goes with them.
func TestUnmountWithCopies(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("db")
	target, identity := p.own(handle)
	p.write(target, "data")
	pipe, hold, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	other := exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; read line")
	other.Stdin = pipe
	ready, err := other.StdoutPipe()
	if err == nil {
		err = other.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer hold.Close() // for which it waits
	pipe.Close()
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		p.unmount(handle, target)
	}
	if mounted, err := host.IsMountpoint(target); err != nil || mounted {
		t.Errorf("unmounted, and mounted %t, %v", mounted, err)
	}
	if mapper() == "fuse" {
		if err := inNamespace(t, p.config.Namespace, nil).Fence(t.Context(), victim(handle, identity)); err != nil {
			t.Fatal(err)
		}
		p.wantNoClient()
	}
	hold.Close()
	for end := time.Now().Add(30 * time.Second); len(p.mapped()) > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("its copies are gone, and it is mapped as %q", p.mapped())
		}
	}
}

// wantNoClient waits until no rbd-fuse of the pool runs.
func (p *pool) wantNoClient() {
	p.t.Helper()
	for end := time.Now().Add(30 * time.Second); len(p.clients()) > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatal("the client that was fenced goes on")
		}
	}
}
