package cut_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

func remains(t *testing.T, c *cut.Cutter, v cut.Volume) []string {
	t.Helper()
	left, err := c.Remains(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func TestRemains(t *testing.T) {
	w := onTmpfs(t)
	c := newCutter(t)
	holder := start(t, false, "open", filepath.Join(w.source, "file"))
	target := hosttest.Dir(t)
	container := start(t, true, "bind", w.source, target)
	service := start(t, true, "wait")
	if left := remains(t, c, w.volume); !slices.Contains(left, "the mount at "+w.volume.Mountpoint) {
		t.Errorf("while it is mounted: got %q", left)
	}
	if mountedIn(t, service, w.volume.Mountpoint) {
		t.Error("the copy of the mount that nobody uses was not taken away")
	}
	if mountsAt(t, w.volume.Mountpoint) != 1 || !mountedIn(t, container, target) {
		t.Error("a mount that is in use was taken away")
	}
	if err := host.Unmount(w.volume.Mountpoint); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"process " + pid(holder) + " (exe), which has " + w.source + "/file open",
		"process " + pid(container) + " (exe), which lives where the volume is mounted at " + target,
	}
	if left := remains(t, c, w.volume); !slices.Equal(left, want) {
		t.Errorf("got %q, want %q", left, want)
	}
	for _, child := range []interface{ Kill() error }{holder.Process, container.Process} {
		if err := child.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = holder.Wait(), container.Wait() // reports the kill
	if left := remains(t, c, w.volume); len(left) != 0 {
		t.Errorf("in the end: got %q, want nothing", left)
	}
	if !alive(t, service) {
		t.Error("the service was killed")
	}
}

// Of the processes of a container one is named.
func TestRemainsNamesOneOfAContainer(t *testing.T) {
	w := onTmpfs(t)
	container := start(t, true, "bind-and-start", w.source, hosttest.Dir(t))
	if err := host.Unmount(w.volume.Mountpoint); err != nil {
		t.Fatal(err)
	}
	left := remains(t, newCutter(t), w.volume)
	if len(left) != 1 || !strings.HasPrefix(left[0], "process "+pid(container)) {
		t.Errorf("got %q, want %s alone", left, pid(container))
	}
}
