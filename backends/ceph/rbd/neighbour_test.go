//go:build ceph && cgo

package rbd_test

import (
	"os"
	"os/exec"
	"testing"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/backends/ceph/rbd"
)

// Another host on this kernel has the same directories, in a mount namespace of its own:
// what it lets go of is not what we have of the same image.
func TestNeighbour(t *testing.T) {
	if os.Getenv("RBD_TEST_NEIGHBOUR") != "" {
		letGo(t, os.Getenv("RBD_TEST_NEIGHBOUR"))
		return
	}
	p := newPool(t, func(c *rbd.Config) { c.Mapper = "fuse" })
	handle := p.create("db")
	identity := p.connect(handle)
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs tmpfs "$RBD_TEST_RUN" && exec "$0" -test.v -test.run='^TestNeighbour$'`, os.Args[0])
	cmd.Env = append(os.Environ(), "RBD_TEST_NEIGHBOUR="+handle, "RBD_TEST_NAMESPACE="+p.config.Namespace, "RBD_TEST_RUN="+p.run)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the other host: %v: %s", err, out)
	}
	target := p.mount(handle, backends.MountOptions{Alone: true, Identity: &identity})
	p.write(target, "data")
	p.want(target, "data")
	p.unmount(handle, target)
}

// letGo lets go of a volume on a host that does not have it.
func letGo(t *testing.T, handle string) {
	c := rbd.DefaultConfig()
	c.Cluster = cephtest.Config(t, "host")
	c.Namespace, c.Mapper = os.Getenv("RBD_TEST_NAMESPACE"), "fuse"
	p, err := rbd.Open(c, "pool", os.Getenv("RBD_TEST_RUN"), discard())
	if err == nil {
		err = p.Unmount(t.Context(), handle, os.Getenv("RBD_TEST_RUN")+"/nowhere")
	}
	if err == nil {
		err = p.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}
