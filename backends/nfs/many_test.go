package nfs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// Two hundred volumes are one file system on the host, and one that is exclusive is
// another.
func testMany(t *testing.T, s server) {
	const many = 200
	c := newPool(t, s.exported, "4.2")
	p := openPool(t, hosttest.Dir(t), c)
	dir, there := hosttest.Dir(t), hosttest.Subdir(t, filepath.Join(s.exported, c.Subdir), "volumes")
	show := func(id string, alone bool) time.Duration {
		target := hosttest.Subdir(t, dir, id)
		hosttest.Subdir(t, there, id) // it takes less than Create
		begin := time.Now()
		if err := p.Mount(t.Context(), "volumes/"+id, target, backends.MountOptions{Alone: alone}); err != nil {
			t.Fatal(err)
		}
		took := time.Since(begin)
		writeFile(t, filepath.Join(target, "file"))
		return took
	}
	const first = "first.0123456789ab"
	show(first, false)
	before := kernelMemory(t)
	var took, plain []time.Duration
	for n := range many - 1 {
		took = append(took, show(fmt.Sprintf("v%d.0123456789ab", n), false))
	}
	t.Logf("each of %d volumes more has %d KiB of the kernel's memory", many-1, (kernelMemory(t)-before)/(many-1))
	for n := range 20 { // as other plugins do
		point := hosttest.Subdir(t, hosttest.Dir(t), fmt.Sprint(n))
		begin := time.Now()
		source := fmt.Sprintf("%s:%s/%s/volumes/%s", c.Server, c.Export, c.Subdir, first)
		if err := unix.Mount(source, point, "nfs", 0, "vers=4.2,proto=tcp,nosharecache,addr="+address); err != nil {
			t.Fatal(err)
		}
		plain = append(plain, time.Since(begin))
	}
	slices.Sort(took)
	slices.Sort(plain)
	t.Logf("the median mount of a volume took %v, that of a mount of its own %v", took[len(took)/2], plain[len(plain)/2])
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

// kernelMemory is how many KiB the kernel has allocated for itself.
func kernelMemory(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "Slab:"); ok {
			n, err := strconv.Atoi(strings.Fields(value)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("/proc/meminfo has no Slab")
	return 0
}
