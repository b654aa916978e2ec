package cut_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/cut"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// What the test binary does when it is started by a test, as its first argument
// after this one says.
const childArg = "as-a-child"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == childArg {
		if err := child(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintf(os.Stderr, "%v: %v\n", os.Args[2:], err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(isolated) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			fmt.Fprintf(os.Stderr, "make mounts private: %v\n", err)
			os.Exit(1)
		}
	}
	if os.Geteuid() == 0 && os.Getenv(isolated) == "" {
		os.Exit(isolate())
	}
	os.Exit(m.Run())
}

// isolated is set in the environment of tests that have a mount namespace of
// their own.
const isolated = "DVOLD_TEST_ISOLATED"

// isolate runs the tests in a mount namespace of their own, and returns their
// exit status: other tests on this machine make namespaces too, which would have
// copies of the mounts made here, and be cut off from them.
func isolate() int {
	runtime.LockOSThread() // with which a child with Pdeathsig ends
	tests := exec.Command("/proc/self/exe", os.Args[1:]...)
	tests.Args[0] = os.Args[0]
	tests.Stdin, tests.Stdout, tests.Stderr = os.Stdin, os.Stdout, os.Stderr
	tests.Env = append(os.Environ(), isolated+"=1")
	tests.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	if err := tests.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// child plays a role, and says "ready" once it has what the role is about.
func child(role string, args []string) error {
	go func() { // it must not outlive the test, should that die
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	var err error
	switch role {
	case "wait":
	case "write": // a line every millisecond to each of the files
		return write(args)
	case "write-durably": // to a file, and in another what was made durable
		return writeDurably(args[0], args[1])
	case "open": // each of the files, without writing
		for _, path := range args {
			if _, err = unix.Open(path, unix.O_RDWR|unix.O_CREAT, 0o644); err != nil {
				return err
			}
		}
	case "path": // O_PATH of each of the files
		for _, path := range args {
			if _, err = unix.Open(path, unix.O_PATH, 0); err != nil {
				return err
			}
		}
	case "work-in":
		err = os.Chdir(args[0])
	case "live-in":
		if err = unix.Chroot(args[0]); err == nil {
			err = os.Chdir("/")
		}
	case "map":
		err = mapFile(args[0])
	case "unmap": // what was written to a mapping, once it is told to
		return unmapFile(args[0])
	case "bind": // source target ..., in a namespace of its own
		for ; len(args) >= 2 && err == nil; args = args[2:] {
			err = unix.Mount(args[0], args[1], "", unix.MS_BIND, "")
		}
	case "bind-and-start": // source target, and another process there
		if err = unix.Mount(args[0], args[1], "", unix.MS_BIND, ""); err != nil {
			return err
		}
		other := exec.Command("/proc/self/exe", childArg, "wait")
		other.Stdin = os.Stdin
		err = other.Start()
	case "bind-and-write": // source target, and to a file there
		if err = unix.Mount(args[0], args[1], "", unix.MS_BIND, ""); err != nil {
			return err
		}
		return write([]string{filepath.Join(args[1], "file")})
	case "fuse":
		return serveFUSE(args[0])
	case "unmount": // each of these, in a namespace of its own
		for _, target := range args {
			err = errors.Join(err, unix.Unmount(target, 0))
		}
	case "container": // root source target: nothing but root, with source at target
		return container(args[0], args[1], args[2])
	case "serve":
		return serve(args[0])
	case "send":
		return send(args[0], args[1], args[2], args[3])
	case "end-first-thread": // and others open or map a file
		return endFirstThread(args[0], args[1])
	case "thread-in": // one thread in a namespace in which source is at target
		return threadIn(args[0], args[1])
	default:
		return errors.New("no such role")
	}
	if err != nil {
		return err
	}
	fmt.Println("ready")
	select {}
}

// write appends to files until it is killed.
func write(paths []string) error {
	var files []*os.File
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	for i := 0; ; i++ {
		for _, f := range files {
			if _, err := fmt.Fprintln(f, "line", i); err != nil {
				select {} // to be killed
			}
		}
		if i == 0 {
			fmt.Println("ready")
		}
		time.Sleep(time.Millisecond) // not to wait for anything, but to leave the others the processor
	}
}

// writeDurably appends to a file, and to another what is durable in the first,
// until it is killed or the first fails.
func writeDurably(path, acknowledged string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND|os.O_SYNC, 0o644)
	if err != nil {
		return err
	}
	done, err := os.Create(acknowledged)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		line := fmt.Sprintln("line", i)
		if _, err := io.WriteString(f, line); err != nil {
			select {} // to be killed
		}
		if _, err := io.WriteString(done, line); err != nil {
			return err
		}
		if i == 0 {
			fmt.Println("ready")
		}
	}
}

// mapFile maps a file and closes it.
func mapFile(path string) error {
	data, err := mapped(path)
	if err == nil {
		copy(data, "again") // closing the file has written what was there before
	}
	return err
}

// unmapFile maps a file, writes to it, and unmaps it when it gets SIGUSR1.
func unmapFile(path string) error {
	data, err := mapped(path)
	if err != nil {
		return err
	}
	copy(data, "again") // closing the file has written what was there before
	told := make(chan os.Signal, 1)
	signal.Notify(told, unix.SIGUSR1)
	fmt.Println("ready")
	<-told
	return unix.Munmap(data)
}

func mapped(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(4096); err != nil {
		return nil, err
	}
	data, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err == nil {
		copy(data, "mapped")
	}
	return data, err
}

// container makes a directory the root of this namespace, with source at target
// in it.
func container(root, source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil { // the old root
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	fmt.Println("ready")
	select {}
}

// endFirstThread has the first thread of the process end, and others keep a
// file, open or mapped.
func endFirstThread(how, path string) error {
	if how == "map" {
		if err := mapFile(path); err != nil {
			return err
		}
	} else if _, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT, 0o644); err != nil {
		return err
	}
	go func() {
		for {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", os.Getpid()))
			if strings.Contains(string(text), ") Z ") {
				break
			}
			runtime.Gosched()
		}
		fmt.Println("ready")
		select {}
	}()
	runtime.LockOSThread() // init did too: this is the first thread
	_, _, _ = syscall.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
	return nil
}

// threadIn has a thread that is not the first one live where source is mounted
// at target.
func threadIn(source, target string) error {
	ready := make(chan error)
	var live func()
	live = func() {
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			go live() // on another thread, as this one is taken
			select {}
		}
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount(source, target, "", unix.MS_BIND, "")
		}
		ready <- err
		select {}
	}
	go live()
	if err := <-ready; err != nil {
		return err
	}
	fmt.Println("ready")
	select {}
}

// start starts this binary again in a role, in a mount namespace of its own if
// private is set, and returns when it is ready. It ends with the test.
func start(t testing.TB, private bool, args ...string) *exec.Cmd {
	t.Helper()
	command := exec.Command("/proc/self/exe", append([]string{childArg}, args...)...)
	if private {
		command.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	}
	if _, err := command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	hosttest.Start(t, command)
	return command
}

// killed tells whether a child was ended by SIGKILL. It must have ended.
func killed(t *testing.T, command *exec.Cmd) bool {
	t.Helper()
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, command.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil); err != nil {
		t.Fatal(err)
	}
	const killed = 2 // CLD_KILLED
	return info.Signo == int32(unix.SIGCHLD) && info.Code == killed
}

// alive tells whether a child has not ended.
func alive(t *testing.T, command *exec.Cmd) bool {
	t.Helper()
	p, err := host.FindProcess(command.Process.Pid)
	return err == nil && p.Alive()
}

// process returns who a child is.
func process(t *testing.T, command *exec.Cmd) host.Process {
	t.Helper()
	p, err := host.FindProcess(command.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func pid(command *exec.Cmd) string { return strconv.Itoa(command.Process.Pid) }

// newCutter returns one that logs to the test.
func newCutter(t testing.TB) *cut.Cutter {
	return &cut.Cutter{Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
}

type testWriter struct{ testing.TB }

func (w testWriter) Write(text []byte) (int, error) {
	w.Log(strings.TrimSpace(string(text)))
	return len(text), nil
}
