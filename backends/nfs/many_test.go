package nfs_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// Two hundred volumes are one file system on the host, and one that is exclusive is another.
func testMany(t *testing.T, s server) {
	const many = 200
	c := newPool(t, s.exported, "4.2")
	p := openPool(t, hosttest.Dir(t), c)
	dir, there := hosttest.Dir(t), hosttest.Subdir(t, filepath.Join(s.exported, c.Subdir), "volumes")
	show := func(id string, alone bool) {
		target := hosttest.Subdir(t, dir, id)
		hosttest.Subdir(t, there, id) // it takes less than Create
		if err := p.Mount(t.Context(), "volumes/"+id, target, backends.MountOptions{Alone: alone}); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(target, "file"))
	}
	for n := range many {
		show(fmt.Sprintf("v%d.0123456789ab", n), false)
	}
	show("own.0123456789ab", true)

	mounts, err := host.MountsBelow(dir)
	if err != nil {
		t.Fatal(err)
	}
	systems := make(map[int]int)
	for _, m := range mounts {
		systems[m.Minor]++
		if own := strings.HasPrefix(filepath.Base(m.Mountpoint), "own."); !host.IsNFS(m) || own != strings.Contains(m.VFSOptions, "nosharecache") {
			t.Errorf("%s: %s with %s", m.Mountpoint, m.FSType, m.VFSOptions)
		}
	}
	if len(mounts) != many+1 || len(systems) != 2 {
		t.Errorf("%d mounts are of %d file systems, want %d of 2", len(mounts), len(systems), many+1)
	}
}
