package gluster_test

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"testing"

	"github.com/dvol/dvold/backends"
)

// Of a volume that is removed, at whatever point its making was cut off, the
// servers keep nothing, and the next at its place has no limit.
func testQuotaRemoved(t *testing.T) {
	p, subdir := quotaPool(t)
	conf := filepath.Join(nodeDir("g1"), "lib/vols/gv0/quota.conf")
	entries := func() int64 {
		t.Helper()
		info, err := os.Stat(conf)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	p.create("first") // so that all directories are there
	before := entries()
	half := func(t *testing.T, v backends.Volume) string {
		name := path.Join(subdir, v.Handle+".new")
		if err := os.Mkdir(filepath.Join(root(t), name), 0o700); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for name, prepare := range map[string]func(t *testing.T, v backends.Volume){
		"made": func(t *testing.T, v backends.Volume) { half(t, v) },
		"limited": func(t *testing.T, v backends.Volume) {
			gluster1(t, "volume", "quota", "gv0", "limit-usage", "/"+half(t, v), "1MB")
		},
		"complete": func(t *testing.T, v backends.Volume) {
			if err := p.Create(t.Context(), v); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := backends.Volume{Handle: "volumes/" + name + ".0123456789ab", Size: 4 * mebi}
			prepare(t, v)
			if err := p.Remove(t.Context(), v.Handle); err != nil {
				t.Fatal(err)
			}
			if got := entries(); got != before {
				t.Errorf("removed: %s has %d bytes, and had %d", conf, got, before)
			}
			v.Handle = "volumes/" + name + ".123456789abc" // a client knows the old path for a second
			prepare(t, v)
			for range 2 {
				if err := p.Create(t.Context(), v); err != nil {
					t.Fatal(err)
				}
			}
			p.wantSize(v.Handle, 4*mebi, 0)
			if err := p.Remove(t.Context(), v.Handle); err != nil {
				t.Fatal(err)
			}
			if err := p.Create(t.Context(), backends.Volume{Handle: v.Handle}); err != nil {
				t.Fatal(err)
			}
			p.wantSize(v.Handle, 0, -1)
			if err := p.Remove(t.Context(), v.Handle); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A volume has all its replicas as soon as it is there, and none is left of one that was
// removed at once: no brick refuses a part of that because it has not counted it yet.
func testQuotaBrief(t *testing.T) {
	p, subdir := quotaPool(t)
	on := func(handle string) (n int) {
		for _, node := range []string{"g1", "g2", "g3"} {
			if _, err := os.Stat(filepath.Join(nodeDir(node), "brick/gv0", subdir, handle)); err == nil {
				n++
			}
		}
		return n
	}
	for i := range 200 {
		handle := fmt.Sprintf("volumes/data%d.0123456789ab", i)
		if err := p.Create(t.Context(), backends.Volume{Handle: handle}); err != nil {
			t.Fatal(err)
		}
		if n := on(handle); n != 3 {
			t.Fatalf("%s was made on %d bricks, want 3", handle, n)
		}
		if err := p.Remove(t.Context(), handle); err != nil {
			t.Fatal(err)
		}
		for _, left := range []string{handle, handle + ".gone", handle + ".new"} {
			if n := on(left); n != 0 {
				t.Fatalf("%s is left on %d bricks", left, n)
			}
		}
	}
}
