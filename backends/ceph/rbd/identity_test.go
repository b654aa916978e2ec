//go:build ceph && cgo

package rbd_test

import (
	"testing"

	"github.com/dvol/dvold/backends"
)

// What another fencer knows this host by, such as a command, says nothing of a mapping: the volume is mounted
// as if there were none. It is nothing by which a client could be cut off.
func TestForeignIdentity(t *testing.T) {
	p := newPool(t, nil)
	handle := p.create("db")
	for _, domain := range []string{"host", "pool/rbd", "volume/rbd/0123456789abcdef0123456789abcdef"} {
		id := &backends.Identity{Domain: domain, Facts: map[string]string{"address": "10.97.0.1"}}
		target := p.mount(handle, backends.MountOptions{Alone: true, Identity: id})
		p.write(target, "data")
		if again := p.mount(handle, backends.MountOptions{Alone: true, Identity: id}); again != target {
			t.Errorf("mounted again at %s", again)
		}
		p.unmount(handle, target)
		if got := p.mapped(); len(got) != 0 {
			t.Errorf("unmounted, and mapped as %q", got)
		}
		for _, facts := range []map[string]string{nil, id.Facts} {
			fence := victim(handle, backends.Identity{Domain: domain, Facts: facts})
			if p.Fence(t.Context(), fence) == nil || p.Unfence(t.Context(), fence) == nil {
				t.Errorf("fenced, or let in again, by %v", fence.Identity)
			}
		}
	}
}
