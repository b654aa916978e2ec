//go:build ceph && cgo

package cephfs_test

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephfs"
	"github.com/dvol/dvold/backends/ceph/cephtest"
	"github.com/dvol/dvold/internal/host"
)

// fencingPool is a pool that fences.
type fencingPool struct {
	*pool
	fencer cephfs.FencingPool
}

func newFencingPool(t *testing.T, change func(*cephfs.Config)) fencingPool {
	t.Helper()
	p := newPool(t, func(c *cephfs.Config) {
		c.Fencer, c.FencerKeyring = "evictor", cephtest.Keyring("evictor")
		if change != nil {
			change(c)
		}
	})
	return fencingPool{p, fencing(t, p.Pool)}
}

func fencing(t *testing.T, p *cephfs.Pool) cephfs.FencingPool {
	t.Helper()
	f, err := p.Fencing(slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// connect makes this host the owner of a volume, connects it, and returns how it is
// to be fenced.
func (p fencingPool) connect(handle string) backends.Fence {
	p.t.Helper()
	id, err := p.fencer.Identity(p.t.Context(), handle)
	if err != nil {
		p.t.Fatal(err)
	}
	if len(id.Facts) > 0 {
		p.t.Errorf("there are facts before there is a client: %v", id.Facts)
	}
	id, err = p.fencer.Connect(p.t.Context(), handle, id)
	if err != nil {
		p.t.Fatal(err)
	}
	return backends.Fence{Host: "h1", Incarnation: 1, Pool: "pool", Volume: "v", ID: "v.0123456789ab", Handle: handle, Epoch: 1, Identity: id}
}

// wantNone fails if anything of a volume's own client is left.
func (p fencingPool) wantNone() {
	p.t.Helper()
	left, err := filepath.Glob(filepath.Join(p.run, "cephfs", "pool", "own.*"))
	if err != nil || len(left) > 0 {
		p.t.Errorf("left: %v, %v", left, err)
	}
}

// ownClient is the client of a volume alone that runs, or none.
func (p fencingPool) ownClient(handle string) host.Process {
	p.t.Helper()
	running, err := cephfs.ClientsBelow(filepath.Join(p.run, "cephfs", "pool"))
	if err != nil {
		p.t.Fatal(err)
	}
	for point, processes := range running {
		if point == "own."+cephfs.OwnKey(handle) {
			return processes[0]
		}
	}
	return host.Process{}
}
