package cut_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// What stands on the volume goes with it, what it stands on stays.
func TestStackedMounts(t *testing.T) {
	w := onTmpfs(t)
	below := hosttest.Subdir(t, w.volume.Mountpoint, "below")
	bind(t, w.source, w.volume.Mountpoint) // twice
	bind(t, w.neighbour, below)
	elsewhere := hosttest.Dir(t)
	bind(t, w.neighbour, elsewhere)
	bind(t, w.source, elsewhere) // over a neighbour
	innocent := start(t, false, "write", filepath.Join(w.neighbour, "file"))
	cutNow(t, newCutter(t), w.volume)
	notMounted(t, w.volume.Mountpoint)
	m, err := host.MountedAt(elsewhere)
	if err != nil || m == nil || m.Root != "/volumes/web-ba9876543210" {
		t.Errorf("at %s: got %+v, %v, want the neighbour", elsewhere, m, err)
	}
	if !alive(t, innocent) {
		t.Error("the neighbour was killed")
	}
}

// The path of a mount of the volume may lead to another one above it.
func TestHiddenMount(t *testing.T) {
	w := onTmpfs(t)
	above := hosttest.Dir(t)
	hidden := hosttest.Subdir(t, above, "hidden")
	bind(t, w.source, hidden)
	if err := unix.Mount("dvold-test", above, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	bind(t, w.neighbour, hosttest.Subdir(t, above, "hidden"))
	cutFails(t, newCutter(t), w.volume, "the mount at "+hidden)
	if err := unix.Unmount(hidden, 0); err != nil {
		t.Errorf("the mount above was taken away: %v", err)
	}
	if err := unix.Unmount(above, 0); err != nil {
		t.Fatal(err)
	}
	cutNow(t, newCutter(t), w.volume)
	notMounted(t, hidden)
}

// A namespace that no process lives in may have a copy.
func TestNamespaceWithoutProcesses(t *testing.T) {
	for name, keep := range map[string]func(t *testing.T, namespace string) bool{
		"kept by a descriptor": func(t *testing.T, namespace string) bool {
			f, err := os.Open(namespace)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			keeper := exec.Command("sleep", "1000")
			keeper.ExtraFiles = []*os.File{f}
			begin(t, keeper)
			return true
		},
		"kept by a mount": func(t *testing.T, namespace string) bool {
			point := filepath.Join(hosttest.Dir(t), "point")
			if err := os.WriteFile(point, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			err := unix.Mount(namespace, point, "", unix.MS_BIND, "")
			if err != nil && !errors.Is(err, unix.EINVAL) {
				t.Fatal(err)
			}
			return err == nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := onTmpfs(t)
			target := hosttest.Dir(t)
			child := start(t, true, "bind", w.source, target)
			// A namespace can only be kept by one that the kernel takes to be older, and
			// it is not always right about that.
			within(t, "namespace that can be kept", func() bool {
				if keep(t, "/proc/"+pid(child)+"/ns/mnt") {
					return true
				}
				end(t, child)
				child = start(t, true, "bind", w.source, target)
				return false
			})
			end(t, child)
			report := cutNow(t, newCutter(t), w.volume)
			if len(report.Killed) != 0 {
				t.Errorf("killed %+v, want nobody", report.Killed)
			}
			for _, mountpoint := range []string{target, w.volume.Mountpoint} {
				there := func(where string) bool { return strings.HasSuffix(where, ": "+mountpoint) }
				if !slices.ContainsFunc(report.Unmounted, there) {
					t.Errorf("unmounted %q, want %s in another namespace", report.Unmounted, mountpoint)
				}
			}
		})
	}
}

// An unprivileged user's copy of the mount table can't be changed: whoever lives
// there is killed.
func TestLockedCopy(t *testing.T) {
	w := onTmpfs(t)
	child := exec.Command("/proc/self/exe", childArg, "wait")
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{Size: 1}}, GidMappings: []syscall.SysProcIDMap{{Size: 1}},
	}
	if _, err := child.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	hosttest.Start(t, child)
	bystander := start(t, true, "wait")
	report := cutNow(t, newCutter(t), w.volume)
	if len(report.Killed) != 1 || report.Killed[0].PID != child.Process.Pid || !strings.Contains(report.Killed[0].Why, "can't be taken away") {
		t.Errorf("killed %+v, want %d, for its mount", report.Killed, child.Process.Pid)
	}
	if !alive(t, bystander) {
		t.Error("a process with a copy that could be changed was killed")
	}
}

// A copy of the mount may be the last that is left.
func TestCopyAlone(t *testing.T) {
	w := onTmpfs(t)
	service := start(t, true, "wait")
	if err := unix.Unmount(w.volume.Mountpoint, 0); err != nil {
		t.Fatal(err)
	}
	cutNow(t, newCutter(t), w.volume)
	if mountedIn(t, service, w.volume.Mountpoint) || !alive(t, service) {
		t.Error("the service still has the volume, or was killed")
	}
}

// What is mounted again during a cut, or between two, is cut too; and what was
// mounted there before is looked for nevertheless.
func TestMountedAgain(t *testing.T) {
	w := onTmpfs(t)
	c := newCutter(t)
	cutNow(t, c, w.volume)
	cutNow(t, c, w.volume)
	other := hosttest.Subdir(t, w.pool, "volumes/other")
	bind(t, other, w.volume.Mountpoint)
	writer := start(t, false, "write", w.file("file"))
	container := start(t, true, "bind", w.source, hosttest.Dir(t))
	report := cutNow(t, c, w.volume)
	if len(report.Killed) != 2 || !killed(t, writer) || !killed(t, container) {
		t.Errorf("killed %+v, want %s and %s", report.Killed, pid(writer), pid(container))
	}
}

// A volume that nobody knows anything of, and that is not mounted, is none.
func TestNothingToCut(t *testing.T) {
	w := onTmpfs(t)
	holder := start(t, false, "open", w.file("file"))
	report := cutNow(t, newCutter(t), cut.Volume{ID: "db-0123456789ab", Mountpoint: hosttest.Dir(t)})
	if len(report.Killed)+len(report.Unmounted) != 0 || !alive(t, holder) {
		t.Errorf("got %+v, want nothing", report)
	}
}

// Without what is known of it a volume is found by its mountpoint.
func TestCutByMountpoint(t *testing.T) {
	w := onTmpfs(t)
	holder := start(t, false, "open", filepath.Join(w.source, "file"))
	container := start(t, true, "bind", w.source, hosttest.Dir(t))
	cutNow(t, newCutter(t), cut.Volume{ID: w.volume.ID, Mountpoint: w.volume.Mountpoint})
	if !killed(t, holder) || !killed(t, container) {
		t.Error("a victim lives")
	}
}

// Another type or source is another file system, whatever its number.
func TestNumberOfAnother(t *testing.T) {
	for name, change := range map[string]func(*cut.Volume){
		"type":   func(v *cut.Volume) { v.Type = "ext4" },
		"source": func(v *cut.Volume) { v.Source = "server:/volume" },
	} {
		t.Run(name, func(t *testing.T) {
			w := onTmpfs(t)
			v := w.volume
			v.Mountpoint = hosttest.Dir(t)
			change(&v)
			innocent := start(t, true, "bind", w.source, hosttest.Dir(t))
			cutNow(t, newCutter(t), v)
			if !alive(t, innocent) || mountsAt(t, w.volume.Mountpoint) != 1 {
				t.Error("another volume was cut")
			}
		})
	}
}

func TestBadVolume(t *testing.T) {
	hosttest.Root(t)
	for why, v := range map[string]cut.Volume{
		`device "x:1" is not`:   {Device: "x:1", Root: "/"},
		`device "1" is not`:     {Device: "1", Root: "/"},
		`root "volumes" is not`: {Device: "1:2", Root: "volumes"},
		`root "" is not`:        {Device: "1:2"},
		`mountpoint "a" is not`: {Mountpoint: "a"},
		`mountpoint "/" is not`: {Mountpoint: "/"},
	} {
		v.ID = "db-0123456789ab"
		if v.Mountpoint == "" {
			v.Mountpoint = hosttest.Dir(t)
		}
		cutFails(t, newCutter(t), v, why)
	}
}

func TestIdentified(t *testing.T) {
	w := onTmpfs(t)
	got, err := cut.Volume{Mountpoint: w.volume.Mountpoint}.Identified()
	if err != nil || got.Device != w.volume.Device || got.Root != "/volumes/db-0123456789ab" || got.Type != "tmpfs" || got.Source != "dvold-test" {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := (cut.Volume{Mountpoint: w.source}).Identified(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not mounted: got %v, want %v", err, fs.ErrNotExist)
	}
}

func mountsAt(t *testing.T, target string) int {
	t.Helper()
	table, err := host.ReadMountTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := table.At(target)
	if err != nil {
		t.Fatal(err)
	}
	return len(mounts)
}
