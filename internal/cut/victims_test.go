package cut_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// Whoever can write to the volume is killed, and for the right reason.
func TestVictims(t *testing.T) {
	tests := []struct {
		name  string
		start func(t *testing.T, w world) *exec.Cmd
		why   func(w world) string
	}{
		{"open file", func(t *testing.T, w world) *exec.Cmd { return start(t, false, "open", w.file("file")) },
			func(w world) string { return "has " + w.file("file") + " open" }},
		{"file opened in the pool", func(t *testing.T, w world) *exec.Cmd {
			return start(t, false, "open", filepath.Join(w.source, "file"))
		}, func(w world) string { return "has " + w.source + "/file open" }},
		{"deleted file", func(t *testing.T, w world) *exec.Cmd {
			child := start(t, false, "open", w.file("file"))
			if err := os.Remove(w.file("file")); err != nil {
				t.Fatal(err)
			}
			return child
		}, func(w world) string { return "has " + w.file("file") + " (deleted) open" }},
		{"directory pointed at", func(t *testing.T, w world) *exec.Cmd { return start(t, false, "path", w.volume.Mountpoint) },
			func(w world) string { return "has " + w.volume.Mountpoint + " open" }},
		{"working directory", func(t *testing.T, w world) *exec.Cmd {
			return start(t, false, "work-in", hosttest.Subdir(t, w.volume.Mountpoint, "a/b"))
		}, func(w world) string { return "works in " + w.file("a/b") }},
		{"deleted working directory", func(t *testing.T, w world) *exec.Cmd {
			child := start(t, false, "work-in", hosttest.Subdir(t, w.volume.Mountpoint, "a"))
			if err := os.Remove(w.file("a")); err != nil {
				t.Fatal(err)
			}
			return child
		}, func(w world) string { return "works in " + w.file("a") }},
		{"deleted volume", func(t *testing.T, w world) *exec.Cmd {
			child := start(t, false, "work-in", w.source)
			if err := os.Remove(w.source); err != nil {
				t.Fatal(err)
			}
			return child
		}, func(w world) string { return "works in " + w.source + " (deleted)" }},
		{"root directory", func(t *testing.T, w world) *exec.Cmd { return start(t, false, "live-in", w.volume.Mountpoint) },
			func(w world) string { return w.volume.Mountpoint }},
		{"program", func(t *testing.T, w world) *exec.Cmd {
			run(t, "cp", "/bin/sleep", w.file("program"))
			child := exec.Command(w.file("program"), "1000")
			child.Dir = "/"
			begin(t, child)
			return child
		}, func(w world) string { return w.file("program") }},
		{"mapping alone", func(t *testing.T, w world) *exec.Cmd { return start(t, false, "map", w.file("file")) },
			func(w world) string { return "has " + w.file("file") + " mapped" }},
		{"odd name", func(t *testing.T, w world) *exec.Cmd {
			return start(t, false, "map", w.file("two words\nand more (deleted)"))
		}, func(w world) string { return "mapped" }},
		{"process whose first thread has ended", func(t *testing.T, w world) *exec.Cmd {
			return start(t, false, "end-first-thread", "open", w.file("file"))
		}, func(w world) string { return "has " + w.file("file") + " open" }},
		{"mapping of such a process", func(t *testing.T, w world) *exec.Cmd {
			return start(t, false, "end-first-thread", "map", w.file("file"))
		}, func(w world) string { return "has " + w.file("file") + " mapped" }},
		{"container without an open file", func(t *testing.T, w world) *exec.Cmd {
			return start(t, true, "bind", w.source, hosttest.Dir(t))
		}, func(world) string { return "lives where the volume is mounted at " }},
		{"container with a part of it", func(t *testing.T, w world) *exec.Cmd {
			return start(t, true, "bind", hosttest.Subdir(t, w.source, "part"), hosttest.Dir(t))
		}, func(world) string { return "lives where the volume is mounted at " }},
		{"thread in a namespace of its own", func(t *testing.T, w world) *exec.Cmd {
			return start(t, false, "thread-in", w.source, hosttest.Dir(t))
		}, func(world) string { return "lives where the volume is mounted at " }},
		{"file of a mount that was taken away lazily", func(t *testing.T, w world) *exec.Cmd {
			return behindDetached(t, w.source)
		}, func(world) string { return "file open, through a mount that is in no mount table" }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := onTmpfs(t)
			victim := test.start(t, w)
			innocent := start(t, false, "write", filepath.Join(w.neighbour, "file"))
			report := cutNow(t, newCutter(t), w.volume)
			if len(report.Killed) != 1 || report.Killed[0].PID != victim.Process.Pid {
				t.Fatalf("killed %+v, want %d alone", report.Killed, victim.Process.Pid)
			}
			if why := report.Killed[0].Why; !strings.Contains(why, test.why(w)) {
				t.Errorf("killed because it %s, want %s", why, test.why(w))
			}
			if !killed(t, victim) || !alive(t, innocent) {
				t.Errorf("victim killed: %t, neighbour alive: %t", killed(t, victim), alive(t, innocent))
			}
			notMounted(t, w.volume.Mountpoint)
			growing(t, filepath.Join(w.neighbour, "file"))
		})
	}
}

// Nobody is killed who can't write to the volume, whatever else he has of the
// same file system.
func TestInnocents(t *testing.T) {
	w := onTmpfs(t)
	at := hosttest.Dir(t)
	beside := filepath.Join(w.pool, "volumes/web-ba9876543210")
	// Its name begins as that of the volume.
	longer := hosttest.Subdir(t, w.pool, "volumes/db-0123456789ab2")
	// A monitor's view of the host, of which it has no other copy.
	rootfs := hosttest.Subdir(t, at, "rootfs")
	monitor := start(t, true, "bind", w.source, hosttest.Subdir(t, rootfs, w.volume.Mountpoint))
	innocents := map[string]*exec.Cmd{
		"neighbour":                     start(t, false, "write", filepath.Join(w.neighbour, "file")),
		"neighbour in the pool":         start(t, false, "open", filepath.Join(beside, "file")),
		"similar name":                  start(t, false, "work-in", longer),
		"mapping of a neighbour":        start(t, false, "map", filepath.Join(longer, "file")),
		"in the pool":                   start(t, false, "work-in", filepath.Join(w.pool, "volumes")),
		"namespace without it":          start(t, true, "bind", beside, hosttest.Subdir(t, at, "data")),
		"namespace with the pool":       start(t, true, "bind", w.pool, hosttest.Subdir(t, at, "pool")),
		"copy of the mount table":       start(t, true, "wait"),
		"monitor":                       monitor,
		"neighbour's lazy unmount":      behindDetached(t, longer),
		"neighbour whose mount is gone": start(t, true, "unmount", w.neighbour, w.volume.Mountpoint),
	}
	report := cutNow(t, newCutter(t), w.volume)
	if len(report.Killed) != 0 {
		t.Errorf("killed %+v, want nobody", report.Killed)
	}
	for who, child := range innocents {
		if !alive(t, child) {
			t.Errorf("%s was killed", who)
		}
	}
	growing(t, filepath.Join(w.neighbour, "file"))
	for _, target := range []string{w.volume.Mountpoint, filepath.Join(rootfs, w.volume.Mountpoint)} {
		if mountedIn(t, monitor, target) {
			t.Errorf("the monitor still has the volume at %s", target)
		}
	}
	if !mountedIn(t, monitor, w.neighbour) {
		t.Error("the monitor has lost another volume")
	}
}

// Where this host shows the volume itself, beside where dvold mounts it, a copy
// of the host's mount table shows it too.
func TestCopiesOfAnotherMountOfTheHost(t *testing.T) {
	w := onTmpfs(t)
	elsewhere := hosttest.Dir(t)
	bind(t, w.source, elsewhere)
	service := start(t, true, "wait") // with a copy of all
	report := cutNow(t, newCutter(t), w.volume)
	if len(report.Killed) != 0 || !alive(t, service) {
		t.Errorf("killed %+v, want nobody", report.Killed)
	}
	notMounted(t, elsewhere)
	if mountedIn(t, service, elsewhere) || mountedIn(t, service, w.volume.Mountpoint) {
		t.Error("the service still has the volume")
	}
}

// In a container with the volume at the path where the host has it too, there
// is no copy of the host's mount table.
func TestContainerWithAPathOfTheHost(t *testing.T) {
	w := onTmpfs(t)
	elsewhere := hosttest.Dir(t)
	bind(t, w.source, elsewhere)
	root := hosttest.Tmpfs(t, "")
	container := start(t, true, "container", root, w.source, hosttest.Subdir(t, root, elsewhere))
	report := cutNow(t, newCutter(t), w.volume)
	if len(report.Killed) != 1 || report.Killed[0].PID != container.Process.Pid {
		t.Errorf("killed %+v, want %d", report.Killed, container.Process.Pid)
	}
}

// behindDetached starts a process that has a file of source open through a mount
// that was taken away lazily.
func behindDetached(t *testing.T, source string) *exec.Cmd {
	t.Helper()
	target := hosttest.Dir(t)
	bind(t, source, target)
	child := start(t, false, "open", filepath.Join(target, "file"))
	if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	return child
}

func bind(t testing.TB, source, target string) {
	t.Helper()
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
}

// begin starts a command that ends with the test.
func begin(t *testing.T, command *exec.Cmd) {
	t.Helper()
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait() // reports the kill
	})
}

func run(t testing.TB, command ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", command, err, out)
	}
}

// mountedIn tells whether a process has a mount at a path.
func mountedIn(t *testing.T, command *exec.Cmd, target string) bool {
	t.Helper()
	namespace, err := os.Open(filepath.Join("/proc", strconv.Itoa(command.Process.Pid), "ns/mnt"))
	if err != nil {
		t.Fatal(err)
	}
	defer namespace.Close()
	table, err := host.ReadMountTable(namespace)
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := table.At(target)
	if err != nil {
		t.Fatal(err)
	}
	return len(mounts) > 0
}
