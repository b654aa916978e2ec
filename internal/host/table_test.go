package host_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// A mount is found in the text of the table whatever its path is made of, and
// is not mistaken for one whose path only begins or ends as its own.
func TestMountedAtOddPaths(t *testing.T) {
	hosttest.Root(t)
	dir := hosttest.Dir(t)
	for _, name := range []string{"plain", "two words", "tab\there", "line\nbreak", `back\slash`, `back\040slash`, "dätä", "#hash", "x", "x y"} {
		path := hosttest.Subdir(t, dir, name)
		beside := hosttest.Subdir(t, dir, name+"2")
		below := hosttest.Subdir(t, dir, name+"/below")
		if err := unix.Mount("dvold-test", path, "tmpfs", 0, "size=4k"); err != nil {
			t.Fatal(err)
		}
		m, err := host.MountedAt(path)
		if err != nil || m == nil || m.Mountpoint != path || m.FSType != "tmpfs" {
			t.Errorf("mount at %q: got %+v, %v", path, m, err)
		}
		for _, other := range []string{beside, below, dir, dir + "/" + name[1:]} {
			if m, err := host.MountedAt(other); err != nil || m != nil {
				t.Errorf("with a mount at %q, at %q: got %+v, %v", path, other, m, err)
			}
		}
	}
}
