//go:build ceph && cgo

package cephfs_test

import (
	"io"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/dvol/dvold/backends/ceph/cephfs"
	"github.com/dvol/dvold/internal/host"
)

// Who connects to a volume ends what its record knows of and the mount table does not show
// any more, as of a kernel that has ended: that volume's client, and no other's.
func testKernelEarlier(t *testing.T) {
	p := fencingPool{pool: kernelPool(t, byKernel)}
	p.fencer = fencing(t, p.Pool)
	mine, others := p.create("mine"), p.create("others")
	was := p.connect(mine)
	p.connect(others)
	point := func(handle string) string {
		return filepath.Join(p.run, "cephfs", "pool", "own."+cephfs.OwnKey(handle))
	}
	// Another mount namespace has both still, open: once their mountpoints are removed here,
	// the kernel takes away what is mounted on them there.
	const script = `exec 3<"$1" 4<"$2"; echo up; read go; for fd in 3 4; do timeout 20 touch /proc/self/fd/$fd/file && echo yes || echo no; done`
	there := exec.Command("unshare", "--mount", "sh", "-c", script, "sh", point(mine), point(others))
	in, err := there.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := there.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	there.Stderr = t.Output()
	if err := there.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // with which it ends
		_ = there.Wait()
	})
	if _, err := io.ReadFull(out, make([]byte, len("up\n"))); err != nil {
		t.Fatal(err)
	}
	for _, handle := range []string{mine, others} {
		if err := host.Unmount(point(handle)); err != nil {
			t.Fatal(err)
		}
	}
	now, err := p.fencer.Connect(t.Context(), mine, was.Identity)
	if err != nil {
		t.Fatal(err)
	}
	if before := was.Identity.Facts["address"]; now.Facts["address"] == before {
		t.Errorf("connected as %s again", before)
	}
	if _, err := io.WriteString(in, "go\n"); err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(out); err != nil || string(said) != "no\nyes\n" {
		t.Errorf("could it still write to its volume, and to the other? %q, %v", said, err)
	}
}
