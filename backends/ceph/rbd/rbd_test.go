//go:build ceph && cgo

package rbd_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/backendtest"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/backends/ceph/rbd"
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
	c.Namespace, c.Mapper, c.Size = newNamespace(t), "fuse", 16<<20
	run := hosttest.Dir(t)
	return backendtest.Fixture{
		Open:  func(t *testing.T) backends.Backend { return open(t, c, run) },
		Sizes: true, Disk: int64(c.Size), Alone: true,
		Adopt: func(t *testing.T) string {
			name := fmt.Sprintf("adopted-%08x", rand.Uint32())
			made := inNamespace(t, c.Namespace, nil)
			handle := made.create("adopt")
			cephtest.Admin(t, "rbd", "rename", "rbd/"+c.Namespace+"/"+filepath.Base(handle), "rbd/"+c.Namespace+"/"+name)
			return name
		},
		TakeAway: func(t *testing.T) { cephtest.CutOff(t) },
	}
}
