//go:build ceph && cgo

package rbd_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/ceph/go-ceph/rados"
	ceph "github.com/ceph/go-ceph/rbd"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/backendtest"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/backends/ceph/rbd"
	"github.com/dvol/dvold/internal/host/guesttest"
	"github.com/dvol/dvold/internal/host/hosttest"
)

func TestConformance(t *testing.T) {
	cephtest.Need(t)
	backendtest.Run(t, fixture)
}

// fixture is a pool in a namespace of its own.
func fixture(t *testing.T) backendtest.Fixture {
	c := rbd.DefaultConfig()
	c.Cluster = cephtest.Config(t, "host")
	c.Namespace, c.Mapper, c.Size = newNamespace(t), mapper(), 16<<20
	run := hosttest.Dir(t)
	return backendtest.Fixture{
		Open: func(t *testing.T) backends.Backend {
			p := open(t, c, run)
			if mayGrow(t) {
				return p
			}
			t.Log("without CAP_SYS_RESOURCE no ext4 that is mounted is made larger here: see TestResizeXFS")
			return fixedSize{p, p, p}
		},
		Sizes: true, Disk: int64(c.Size), Alone: true, ResizeUnused: c.Mapper == "krbd",
		Adopt: func(t *testing.T) string {
			name := fmt.Sprintf("adopted-%08x", rand.Uint32())
			made := inNamespace(t, c.Namespace, nil)
			handle := made.create("adopt")
			inCluster(t, func(pool *rados.IOContext) error {
				pool.SetNamespace(c.Namespace)
				return ceph.GetImage(pool, filepath.Base(handle)).Rename(name)
			})
			return name
		},
		TakeAway: func(t *testing.T) {
			if guesttest.Inside() { // which has no iptables
				ip(t, "route", "add", "unreachable", c.Cluster.Monitors[0])
				t.Cleanup(func() { ip(t, "route", "delete", "unreachable", c.Cluster.Monitors[0]) })
				return
			}
			cephtest.CutOff(t)
		},
	}
}

// fixedSize is a pool but for Resize.
type fixedSize struct {
	backends.Backend
	backends.Stamper
	io.Closer
}

// mayGrow tells whether this process may make an ext4 larger that is mounted.
func mayGrow(t *testing.T) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}
