package gluster_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/gluster"
)

// In a pool that is another directory by now nothing is done in the one before, though that is
// still in use.
func TestOtherSubdir(t *testing.T) {
	p := newPool(t, nil)
	before := p.mount(p.create("before"), backends.MountOptions{})
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	subdir := newSubdir(t)
	other := &pool{t: t, run: p.run, subdir: subdir, Pool: open(t, p.run, func(c *gluster.Config) { c.Subdir = subdir })}
	handle := other.create("after")
	other.write(other.mount(handle, backends.MountOptions{}), "after")
	p.write(before, "before")
	p.want(before, "before")
	other.wantClients(2)
	if err := other.Remove(t.Context(), "volumes/before.0123456789ab"); err == nil {
		t.Error("a volume that is mounted was removed")
	}
	for dir, want := range map[string][]string{p.subdir: {"before.0123456789ab"}, subdir: {"after.0123456789ab"}} {
		var got []string
		volumes, err := os.ReadDir(filepath.Join(root(t), dir, "volumes"))
		for _, v := range volumes {
			got = append(got, v.Name())
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("in %s: got %v, %v, want %v", dir, got, err, want)
		}
	}
}
