// Command clock runs a program on whose CLOCK_BOOTTIME time goes faster or slower:
// as on a machine whose clock is not right.
//
// The kernel asks it (seccomp's user notification) whenever the program, or one that
// this has started, asks for that clock by a system call, as package unix does. All
// programs with one rate agree on the time. Their other clocks, and timers, are what
// they were: what a C library reads without a system call can't be changed.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const usage = `usage: clock RATE PROGRAM [ARGUMENT]...

Becomes PROGRAM. RATE is how fast its CLOCK_BOOTTIME goes: 1.01 is 1% too fast.
`

func main() {
	if len(os.Args) == 2 && os.Args[0] == server {
		serve(os.Args[1])
		return
	}
	if len(os.Args) < 3 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, "clock:", run(os.Args[1], os.Args[2:]))
	os.Exit(1)
}

// run returns only if something is wrong.
func run(rate string, argv []string) error {
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	if _, err := strconv.ParseFloat(rate, 64); err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{server, rate}
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // who ends the program's group is to leave it
	if err := cmd.Start(); err != nil {
		return err
	}
	runtime.LockOSThread() // the filter is this thread's, and remains with what it becomes
	listener, err := filter()
	if err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	if err := unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(listener), nil, 0); err != nil {
		return err
	}
	return unix.Exec(program, argv, os.Environ())
}

// filter has the kernel ask whoever has the returned descriptor about each
// clock_gettime(CLOCK_BOOTTIME) of the calling thread.
func filter() (listener int, err error) {
	const number, clock = 0, 16 // where they are in what a filter sees
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_CLOCK_GETTIME, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: clock},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.CLOCK_BOOTTIME, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	f := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, uintptr(unsafe.Pointer(&f)))
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}

// server is what the process is called that answers.
const server = "clock-server"

// serve answers until all who ask have ended.
func serve(rate string) {
	factor, err := strconv.ParseFloat(rate, 64)
	var listener int
	if err == nil {
		listener, err = receive(3)
	}
	for err == nil {
		err = answer(listener, factor)
	}
	if !errors.Is(err, unix.ENOENT) {
		fmt.Fprintln(os.Stderr, "clock:", err)
		os.Exit(1)
	}
}

func receive(socket int) (int, error) {
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 1), control, 0)
	if err != nil {
		return 0, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return 0, fmt.Errorf("no descriptor came (%v)", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return 0, err
	}
	return fds[0], unix.Close(socket)
}

// question and reply are the kernel's seccomp_notif and seccomp_notif_resp.
type question struct {
	ID         uint64
	PID, Flags uint32
	Number     int32
	Arch       uint32
	At         uint64
	Args       [6]uint64
}

type reply struct {
	ID    uint64
	Value int64
	Error int32
	Flags uint32
}

// The ioctls of such a descriptor.
const (
	notifRecv = 0xc0502100
	notifSend = 0xc0182101
)

// answer answers one question. It returns ENOENT once nobody is left to ask.
func answer(listener int, factor float64) error {
	wait := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
	if _, err := unix.Poll(wait, -1); err != nil {
		return retry(err)
	}
	if wait[0].Revents&unix.POLLIN == 0 {
		return unix.ENOENT
	}
	var q question
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), notifRecv, uintptr(unsafe.Pointer(&q))); errno != 0 {
		if errno == unix.ENOENT { // who asked was killed
			return nil
		}
		return retry(errno)
	}
	a := reply{ID: q.ID}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return err
	}
	now = unix.NsecToTimespec(int64(float64(now.Nano()) * factor))
	text := unsafe.Slice((*byte)(unsafe.Pointer(&now)), unsafe.Sizeof(now))
	local := []unix.Iovec{{Base: &text[0]}}
	local[0].SetLen(len(text))
	remote := []unix.RemoteIovec{{Base: uintptr(q.Args[1]), Len: len(text)}}
	if _, err := unix.ProcessVMWritev(int(q.PID), local, remote, 0); err != nil {
		a.Error = -int32(unix.EFAULT)
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), notifSend, uintptr(unsafe.Pointer(&a)))
	if errno != 0 && errno != unix.ENOENT {
		return retry(errno)
	}
	return nil
}

// retry is nil for a call that was interrupted.
func retry(err error) error {
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}
