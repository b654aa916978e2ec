package cut_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// child plays a role, and says "ready" once it has what the role is about.
func child(role string, args []string) error {
	if role == "end-first-thread" {
		hosttest.EndFirstThread()
	}
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
		// Once that was unmounted it is a directory, to which anybody may write.
		if mounted, err := host.IsMountpoint(args[0]); err != nil || !mounted {
			return errors.Join(err, fmt.Errorf("nothing is mounted at %s", args[0]))
		}
		return write([]string{filepath.Join(args[1], "file")})
	case "fuse":
		return serveFUSE(args[0])
	case "fuse-and-send": // directory address
		return serveAndSend(args[0], args[1])
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
		err = keepFile(args[0], args[1])
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

// keepFile keeps a file, open or mapped.
func keepFile(how, path string) error {
	if how == "map" {
		return mapFile(path)
	}
	_, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT, 0o644)
	return err
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
