package cut_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// Writers that begin others faster than a look takes are caught up with.
func TestForks(t *testing.T) {
	for name, script := range map[string]string{
		// Ever more, which do not live long.
		"many": `while [ ! -e "$stop" ]; do (echo line >&3; exec sleep 0.02) & done`,
		// Each begins the next, and ends.
		"hopping": `hop='echo line >&3; [ -e "$stop" ] || sh -c "$hop" &'; export hop; sh -c "$hop"; sh -c "$hop"`,
	} {
		t.Run(name, func(t *testing.T) {
			w := onTmpfs(t)
			stop := filepath.Join(hosttest.Dir(t), "stop")
			t.Cleanup(func() { // should the cut fail
				if err := os.WriteFile(stop, nil, 0o600); err != nil {
					t.Error(err)
				}
			})
			file, err := os.Create(w.file("file"))
			if err != nil {
				t.Fatal(err)
			}
			shell := exec.Command("sh", "-c", script)
			shell.Env = append(os.Environ(), "stop="+stop)
			shell.ExtraFiles = []*os.File{file} // its descriptor 3
			begin(t, shell)
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
			growing(t, filepath.Join(w.source, "file"))
			cutNow(t, newCutter(t), w.volume)
			quiet(t, filepath.Join(w.source, "file"))
			notMounted(t, w.volume.Mountpoint)
		})
	}
}

// A container that is started again whenever it was killed is killed again,
// until mounts are refused: here as soon as the mountpoint is none any more.
func TestRestartedContainer(t *testing.T) {
	w := onTmpfs(t)
	target := hosttest.Dir(t)
	const atMost = 5
	var starts atomic.Int32
	ended := make(chan struct{})
	ready := make(chan struct{}, atMost)
	go func() {
		defer close(ended)
		for starts.Load() < atMost {
			if mounted, err := host.IsMountpoint(w.volume.Mountpoint); err != nil || !mounted {
				return
			}
			container := exec.Command("/proc/self/exe", childArg, "bind-and-write", w.volume.Mountpoint, target)
			container.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
			out, err := container.StdoutPipe()
			if err != nil {
				t.Error(err)
				return
			}
			in, err := container.StdinPipe()
			if err != nil {
				t.Error(err)
				return
			}
			if err := container.Start(); err != nil {
				t.Error(err)
				return
			}
			starts.Add(1)
			if _, err := out.Read(make([]byte, 1)); err == nil {
				ready <- struct{}{}
			}
			_ = container.Wait() // reports the kill
			in.Close()
			time.Sleep(5 * time.Millisecond) // as an engine does
		}
	}()
	<-ready
	report := cutNow(t, newCutter(t), w.volume)
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Fatal("a container lives that was started after the cut")
	}
	if len(report.Killed) == 0 {
		t.Error("nobody was killed")
	}
	t.Logf("the container was started %d times", starts.Load())
	quiet(t, filepath.Join(w.source, "file"))
}

func TestProtected(t *testing.T) {
	tests := map[string]struct {
		program string // the name
		protect bool   // by number
		private bool   // in a container
		dies    bool
	}{
		"by number":                     {program: "writer", protect: true},
		"engine":                        {program: "dockerd"},
		"shim":                          {program: "containerd-shim-runc-v2"},
		"dvold":                         {program: "dvold"},
		"systemd":                       {program: "systemd-journald"},
		"so called in a container":      {program: "dockerd", private: true, dies: true},
		"other":                         {program: "dockerd-not", dies: true},
		"in a container, but by number": {program: "writer", private: true, protect: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := onTmpfs(t)
			program := filepath.Join(hosttest.Dir(t), test.program)
			run(t, "cp", testBinary(t), program)
			child := exec.Command(program, childArg, "open", w.file("file"))
			if test.private {
				child = exec.Command(program, childArg, "bind", w.source, hosttest.Dir(t))
				child.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
			}
			in, err := child.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			hosttest.Start(t, child)
			if err := os.Remove(program); err != nil { // as an upgrade does
				t.Fatal(err)
			}
			c := newCutter(t)
			if test.protect {
				p, err := host.FindProcess(child.Process.Pid)
				if err != nil {
					t.Fatal(err)
				}
				c.Protect = []host.Process{p}
			}
			if test.dies {
				cutNow(t, c, w.volume)
				if !killed(t, child) {
					t.Error("it lives")
				}
				return
			}
			cutFails(t, c, w.volume, "process "+pid(child)+" (")
			if !alive(t, child) {
				t.Fatal("it was killed")
			}
			if test.private { // nothing it has can go as long as it lives
				return
			}
			// It lets go.
			if err := in.Close(); err != nil {
				t.Fatal(err)
			}
			cutNow(t, c, w.volume)
		})
	}
}

// A process that is stopped can be killed nevertheless.
func TestStopped(t *testing.T) {
	w := onTmpfs(t)
	child := start(t, false, "write", w.file("file"))
	if err := child.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	cutNow(t, newCutter(t), w.volume)
	if !killed(t, child) {
		t.Error("it lives")
	}
}

// testBinary returns the path of this program.
func testBinary(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
