package cluster_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

// dyingFence is a fence command, on a host that has the file, that ends dvold
// once the other host is fenced: before dvold can write that down.
const dyingFence = `fence_command: [/bin/bash, -c, '/etc/lab/fence && if [[ $DVOL_ACTION = fence && -e /etc/lab/dies ]]; then kill -KILL $PPID; fi']`

// An owner that goes on, for it was to be fenced, and a taker that died right
// after it had fenced it come back: first the owner alone, then both together.
// Whoever has the volume in the end, it is one, and nothing is left of a fence of
// which there never was a proof.
func TestOwnerAndTakerComeBack(t *testing.T) {
	c := ownTakeoverCluster(t, 2, 1, func(_, configuration string) string {
		return strings.Replace(configuration, "fence_command: ["+lab.FenceCommand+"]", dyingFence, 1)
	})
	h1, h2 := c.h(1), c.h(2)
	p := place{"fenced", "db"}
	h1.createExclusive(p.pool, p.name)
	for _, together := range []bool{false, true} {
		h1.beat(p.name, p.name)
		epoch := h1.owner(p.name).Epoch
		h1.must(h1.Cut(h1.ctx, lab.Consul))
		h2.fenceAndDie(p.name, h1)
		// The owner, which did not hear of it, can write no more; nobody else can yet.
		_, err := h1.Docker(h1.ctx, "exec", p.name, "touch", "/data/file")
		h1.fails("write of who is fenced", err, "not connected")

		taken := make(chan error, 1)
		if together {
			go func() {
				err := h2.StartDvold(h2.ctx)
				if err == nil {
					err = h2.gets(c, p, lab.SinceBoot(), 2*lease)
				}
				taken <- err
			}()
		} else {
			taken <- nil
		}
		c.atOnce(func() error { return h1.back(c) })
		h2.must(<-taken)
		c.atOnce(func() error { return h2.back(c) })
		if proofs, err := c.keys("fences/"); err != nil || len(proofs) > 0 {
			t.Errorf("proofs are left: %v (%v)", proofs, err)
		}
		h1.wantMounts(0)
		if together {
			h1.wantOwner(p.name, "h2", epoch+1)
			h2.wantMounts(1)
		} else {
			h1.wantOwner(p.name, "h1", epoch) // of which it has nothing any more
			h2.wantMounts(0)
		}
		h1.removeContainers()
		h2.removeContainers()
	}
	h1.must(h1.RemountStorage(h1.ctx)) // h2 may have fenced it once more after it was back
	now := lab.SinceBoot()
	h1.beat(p.name, p.name)
	c.atOnce(func() error { return c.beatsOn(p, h1, now) })
	c.wantOneWriter(p.pool, p.name, "h1", "h2", "h1")
}

// fenceAndDie has a host take a volume over from another, which is silent soon,
// and die once it has fenced it.
func (h *host) fenceAndDie(volume string, from *host) {
	h.t.Helper()
	flag := h.Path("etc/lab/dies")
	h.must(os.WriteFile(flag, nil, 0o600))
	h.wantLive(from.Name(), false)
	// Docker itself would ask again for half a minute.
	_, err := h.plugin("Mount", request{Name: volume, ID: strings.Repeat("ab", 32)})
	h.fails("mount by who dies meanwhile", err)
	h.eventually("dvold has ended", func() error {
		if h.Driver.Running() {
			return fmt.Errorf("it runs (%v)", err)
		}
		return nil
	})
	h.must(os.Remove(flag))
}
