package cut_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// world is a pool with the directories of two volumes, both of which are
// mounted: the one to be cut, and its neighbour.
type world struct {
	pool      string
	volume    cut.Volume
	source    string // of the volume, in the pool
	neighbour string // where that is mounted
}

// newWorld makes a world on a file system.
func newWorld(t testing.TB, pool string) world {
	t.Helper()
	run := hosttest.Dir(t)
	w := world{pool: pool, source: hosttest.Subdir(t, pool, "volumes/db-0123456789ab")}
	mount := func(source, name string) string {
		target := hosttest.Subdir(t, run, "mnt/"+name)
		f, err := os.Open(source)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := host.BindMount(f, target, false); err != nil {
			t.Fatal(err)
		}
		return target
	}
	w.volume = identified(t, cut.Volume{ID: "db-0123456789ab", Mountpoint: mount(w.source, "db-0123456789ab")})
	w.neighbour = mount(hosttest.Subdir(t, pool, "volumes/web-ba9876543210"), "web-ba9876543210")
	return w
}

func (w world) file(name string) string { return filepath.Join(w.volume.Mountpoint, name) }

func identified(t testing.TB, v cut.Volume) cut.Volume {
	t.Helper()
	v, err := v.Identified()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// onTmpfs makes a world on a file system in memory.
func onTmpfs(t testing.TB) world {
	t.Helper()
	hosttest.Root(t)
	return newWorld(t, hosttest.Tmpfs(t, "size=64m"))
}

// cutNow cuts a volume, which must not take long.
func cutNow(t testing.TB, c *cut.Cutter, v cut.Volume) cut.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	report, err := c.Cut(ctx, v)
	t.Logf("cut took %v: %+v", time.Since(began).Round(time.Millisecond), report)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// cutFails tries to cut a volume in vain, for as long as it takes to come to an
// error that says why. That must contain a text.
func cutFails(t testing.TB, c *cut.Cutter, v cut.Volume, why string) {
	t.Helper()
	var err error
	for patience := 500 * time.Millisecond; patience < time.Minute; patience *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		began := time.Now()
		var report cut.Report
		report, err = c.Cut(ctx, v)
		took := time.Since(began)
		t.Logf("cut took %v: %+v, %v", took.Round(time.Millisecond), report, err)
		if !errors.Is(err, cut.ErrNotVerified) {
			t.Fatalf("got %v, want %v", err, cut.ErrNotVerified)
		}
		if took > patience+2*time.Second {
			t.Errorf("it took %v, though its time was up after %v", took, patience)
		}
		if strings.Contains(err.Error(), why) {
			return
		}
	}
	t.Fatalf("got %q, want it to contain %q", err, why)
}

func notMounted(t testing.TB, target string) {
	t.Helper()
	m, err := host.MountedAt(target)
	if err != nil || m != nil {
		t.Errorf("at %s: got %+v, %v, want no mount", target, m, err)
	}
}

// growing fails unless a file gets longer.
func growing(t testing.TB, path string) {
	t.Helper()
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	before := size()
	within(t, "a line more in "+path, func() bool { return size() > before })
}

// within waits for a condition.
func within(t testing.TB, what string, holds func() bool) {
	t.Helper()
	const patience = 30 * time.Second
	end := time.Now().Add(patience)
	for !holds() {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(time.Millisecond)
	}
}

// quiet fails if a file changes: nobody may be left to write to it.
func quiet(t testing.TB, path string) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // a writer would need one
	after, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Errorf("%s was written to after the cut", path)
	}
}

func TestCut(t *testing.T) {
	w := onTmpfs(t)
	writer := start(t, false, "write", w.file("file"))
	innocent := start(t, false, "write", filepath.Join(w.neighbour, "file"))
	report := cutNow(t, newCutter(t), w.volume)
	if !killed(t, writer) {
		t.Error("the writer lives")
	}
	if len(report.Killed) != 1 || report.Killed[0].PID != writer.Process.Pid || report.Killed[0].Command == "" ||
		report.Killed[0].Why != "has "+w.file("file")+" open" {
		t.Errorf("got %+v, want the writer %d", report.Killed, writer.Process.Pid)
	}
	if !slices.Contains(report.Unmounted, w.volume.Mountpoint) {
		t.Errorf("unmounted %q, want %q", report.Unmounted, w.volume.Mountpoint)
	}
	notMounted(t, w.volume.Mountpoint)
	quiet(t, filepath.Join(w.source, "file"))
	growing(t, filepath.Join(w.neighbour, "file"))
	if !alive(t, innocent) {
		t.Error("the neighbour was killed")
	}
}
