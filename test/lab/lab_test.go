package lab_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/test/lab"
)

func TestRunsContainers(t *testing.T) {
	h := startHost(t)
	out, err := h.Docker(t.Context(), "run", "--rm", lab.BusyBox, "echo", "hello")
	if err != nil {
		t.Fatal(err)
	}
	if want := "hello"; out != want {
		t.Errorf("container printed %q, want %q", out, want)
	}
	if out := run(t, h, "hostname"); out != h.Name() {
		t.Errorf("hostname = %q, want %q", out, h.Name())
	}
	if here, _ := os.Hostname(); here == h.Name() {
		t.Errorf("this machine is called %q now", here)
	}
	if err := h.StopDocker(); err != nil {
		t.Error(err)
	}
}

func TestKilledDockerLeavesContainers(t *testing.T) {
	h := startHost(t)
	file := h.Path("beats")
	docker(t, h, "run", "-d", "--name", "box", "--stop-signal", "KILL", "-v", h.Path(".")+":/host", lab.BusyBox,
		"sh", "-c", "while :; do echo x >>/host/beats; sleep 0.05; done")
	if err := h.KillDocker(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Docker(t.Context(), "ps"); err == nil {
		t.Error("dockerd still answers")
	}
	size := fileSize(t, file)
	eventually(t, "container writes on", func() bool { return fileSize(t, file) > size+4 })
	if err := h.StartDocker(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out, want := docker(t, h, "ps", "-a", "-f", "name=box", "--format", "{{.Names}}"), "box"; out != want {
		t.Errorf("containers = %q, want %q", out, want)
	}
}

func TestRebootKeepsDiskOnly(t *testing.T) {
	h := startHost(t)
	docker(t, h, "create", "--name", "box", lab.BusyBox, "true")
	docker(t, h, "run", "-d", lab.BusyBox, "sleep", "1000")
	run(t, h, "touch", "/run/volatile")
	id := run(t, h, "cat", "/proc/sys/kernel/random/boot_id")
	if err := h.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := run(t, h, "cat", "/proc/sys/kernel/random/boot_id"); again == id || len(again) != len(id) {
		t.Errorf("boot ID = %q, was %q", again, id)
	}
	if out, err := h.Exec(t.Context(), "test", "!", "-e", "/run/volatile"); err != nil {
		t.Errorf("/run wasn't emptied: %v %s", err, out)
	}
	if err := h.StartDocker(t.Context()); err != nil {
		t.Fatal(err)
	}
	docker(t, h, "start", "box")
	if out := docker(t, h, "ps", "-q"); strings.Contains(out, "\n") {
		t.Errorf("containers ran on: %q", out)
	}
}

// What is mounted below /tmp meanwhile, as tests do, stays out of the host.
func TestForeignMountsStayOut(t *testing.T) {
	lab.Require(t)
	foreign := hosttest.Tmpfs(t, "size=64k")
	for _, name := range []string{"in it", "in it/too"} {
		if err := unix.Mount("test", hosttest.Subdir(t, foreign, name), "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.HasPrefix(foreign, "/tmp/") {
		t.Skipf("the host takes what is mounted at %s along", foreign)
	}
	h := lab.ForTest(t, lab.Options{})
	if mounts, err := h.Mounts("/tmp"); err != nil || len(mounts) > 0 {
		t.Errorf("in the host are mounted %v (%v)", mounts, err)
	}
	inside := lab.ForTest(t, lab.Options{Parent: foreign})
	run(t, inside, "ls", inside.Path("etc/lab"))
}

func TestCloseLeavesNothing(t *testing.T) {
	lab.Require(t)
	parent := t.TempDir()
	tests := map[string]func(*testing.T, *lab.Host){
		"fresh": func(*testing.T, *lab.Host) {},
		"after failed start": func(t *testing.T, h *lab.Host) {
			if err := h.StartDocker(t.Context(), "--no-such-flag"); err == nil {
				t.Error("dockerd started")
			}
		},
		"while a container runs": func(t *testing.T, h *lab.Host) {
			start(t, h)
			docker(t, h, "run", "-d", lab.BusyBox, "sleep", "1000")
		},
		"after a crash of dockerd": func(t *testing.T, h *lab.Host) {
			start(t, h)
			docker(t, h, "run", "-d", lab.BusyBox, "sleep", "1000")
			if err := h.KillDocker(); err != nil {
				t.Error(err)
			}
		},
		"with a command running": func(t *testing.T, h *lab.Host) {
			ended := make(chan error, 1)
			go func() {
				_, err := h.Exec(context.WithoutCancel(t.Context()), "sh", "-c", "echo $$ >"+h.Path("pid")+"; exec sleep 1000")
				ended <- err
			}()
			eventually(t, "command starts", func() bool { return fileSize(t, h.Path("pid")) > 0 })
			t.Cleanup(func() {
				if err := <-ended; err == nil {
					t.Error("command wasn't killed")
				}
			})
		},
	}
	for name, use := range tests {
		t.Run(name, func(t *testing.T) {
			h, err := lab.New(t.Context(), lab.Options{Parent: parent})
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			h.LogIfFailed(t)
			namespace := keepNamespace(t, run(t, h, "readlink", "/proc/self/ns/pid"))
			use(t, h)
			if err := h.Close(); err != nil {
				t.Error(err)
			}
			if err := h.Close(); err != nil {
				t.Errorf("second close: %v", err)
			}
			for _, left := range leftovers(t, h, namespace) {
				t.Errorf("left over: %s", left)
			}
		})
	}
}

// makerDir is set for the process that TestHostEndsWithItsMaker kills.
const makerDir = "LAB_TEST_MAKER_DIR"

func TestHostEndsWithItsMaker(t *testing.T) {
	if dir := os.Getenv(makerDir); dir != "" {
		makeHostAndWait(t, dir)
		return
	}
	lab.Require(t)
	dir := t.TempDir()
	maker := exec.Command(os.Args[0], "-test.run=^TestHostEndsWithItsMaker$")
	maker.Env = append(os.Environ(), makerDir+"="+dir)
	if err := maker.Start(); err != nil {
		t.Fatal(err)
	}
	defer maker.Wait()
	defer maker.Process.Kill()
	file := filepath.Join(dir, "namespace")
	eventually(t, "host is up", func() bool { return fileSize(t, file) > 0 })
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	namespace := keepNamespace(t, string(text))
	if n := len(processes(namespace)); n < 2 {
		t.Fatalf("%d processes in the host, want PID 1 and a command", n)
	}
	maker.Process.Kill()
	maker.Wait()
	eventually(t, "processes end", func() bool { return len(processes(namespace)) == 0 })
	hosts, err := filepath.Glob(filepath.Join(dir, "lab*"))
	if err != nil || len(hosts) != 1 {
		t.Fatalf("hosts in %s: %v (%v), want one", dir, hosts, err)
	}
	if err := lab.Clean(dir); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob("/sys/fs/cgroup/*/" + filepath.Base(hosts[0])); left != nil {
		t.Errorf("left over: %v", left)
	}
}

func makeHostAndWait(t *testing.T, dir string) {
	h := lab.ForTest(t, lab.Options{Parent: dir})
	file := filepath.Join(dir, "namespace")
	run(t, h, "sh", "-c", "trap '' TERM; readlink /proc/self/ns/pid | tr -d '\\n' >"+file+".new; mv "+file+".new "+file+"; exec sleep 1000")
}

func TestNewStopsWithContext(t *testing.T) {
	lab.Require(t)
	parent := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h, err := lab.New(ctx, lab.Options{Parent: parent})
	if err == nil {
		h.Close()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("New = %v, want context.Canceled", err)
	}
	if left, _ := os.ReadDir(parent); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// leftovers finds what a closed host could have left behind.
func leftovers(t *testing.T, h *lab.Host, namespace string) []string {
	t.Helper()
	var left []string
	if _, err := os.Lstat(h.Path(".")); !errors.Is(err, fs.ErrNotExist) {
		left = append(left, "directory "+h.Path("."))
	}
	left = append(left, processes(namespace)...)
	for _, pattern := range []string{"/sys/fs/cgroup/%s", "/sys/fs/cgroup/*/%s"} {
		groups, _ := filepath.Glob(fmt.Sprintf(pattern, h.Name()))
		left = append(left, groups...)
	}
	for _, file := range []string{"/proc/self/mountinfo", "/proc/thread-self/mountinfo"} {
		mounts, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(mounts), h.Name()) {
			left = append(left, "mount in "+file)
		}
	}
	return left
}

// keepNamespace keeps the name of a PID namespace from being given to another
// once it is empty, until the test ends.
func keepNamespace(t *testing.T, namespace string) string {
	t.Helper()
	members := processes(namespace)
	if len(members) == 0 {
		t.Fatalf("nothing is in %s", namespace)
	}
	kept, err := os.Open(members[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kept.Close() })
	return namespace
}

// processes finds those in a PID namespace.
func processes(namespace string) []string {
	var found []string
	spaces, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	for _, space := range spaces {
		if s, err := os.Readlink(space); err == nil && s == namespace {
			found = append(found, space)
		}
	}
	return found
}

// startHost returns a host with dockerd and an image.
func startHost(t *testing.T) *lab.Host {
	t.Helper()
	h := lab.ForTest(t, lab.Options{})
	start(t, h)
	return h
}

func start(t *testing.T, h *lab.Host) {
	t.Helper()
	if err := h.StartDocker(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Image(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, h *lab.Host, argv ...string) string {
	t.Helper()
	out, err := h.Exec(t.Context(), argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func docker(t *testing.T, h *lab.Host, args ...string) string {
	t.Helper()
	return run(t, h, append([]string{"docker"}, args...)...)
}

func fileSize(t *testing.T, file string) int64 {
	t.Helper()
	fi, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return fi.Size()
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}
