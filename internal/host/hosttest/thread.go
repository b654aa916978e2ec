package hosttest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// EndFirstThread has the first thread of this process end, and returns in another once it
// has. To be called before anything else is begun: what waits in a system call, as a read
// of a pipe, may wait in that thread, which then is not to be had.
func EndFirstThread() {
	go onFirstThread(func() {
		// Not RawSyscall: the scheduler would wait for this thread for ever.
		_, _, _ = syscall.Syscall(unix.SYS_EXIT, 0, 0, 0)
	})
	for !firstThreadEnded() {
		time.Sleep(time.Millisecond)
	}
}

// onFirstThread calls f in the first thread of this process. The others that it comes by it
// keeps, so that they are not used for what it starts next.
func onFirstThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		f()
	}
	go onFirstThread(f)
	select {}
}

func firstThreadEnded() bool {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", os.Getpid()))
	return strings.Contains(string(text), ") Z ")
}
