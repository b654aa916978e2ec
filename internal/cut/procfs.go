package cut

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
)

// dir is an open directory of /proc, of a process or of one of its threads. It
// never shows a later one that has the same number.
type dir int

func openDir(path string) (dir, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return dir(fd), nil
}

// open opens a directory within d.
func (d dir) open(name string) (dir, error) {
	fd, err := unix.Openat(int(d), name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return dir(fd), nil
}

func (d dir) close() { unix.Close(int(d)) }

// link reads a symbolic link. The kernel has the path at hand: no file system
// is asked.
func (d dir) link(name string) (string, error) {
	var buf [4096]byte
	n, err := unix.Readlinkat(int(d), name, buf[:])
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(buf[:n]), nil
}

// text reads the beginning of a file, which for the files read by it is more
// than all that matters.
func (d dir) text(name string) ([]byte, error) {
	fd, err := unix.Openat(int(d), name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	text := make([]byte, 1<<10)
	n, err := read(fd, text)
	return text[:max(n, 0)], err
}

// readAll reads to the end.
func readAll(fd int) ([]byte, error) {
	text := make([]byte, 0, 16<<10)
	for {
		n, err := read(fd, text[len(text):cap(text)])
		if n <= 0 || err != nil {
			return text, err
		}
		text = text[:len(text)+n]
		if len(text) == cap(text) {
			text = slices.Grow(text, len(text))
		}
	}
}

func read(fd int, buf []byte) (int, error) {
	for {
		n, err := unix.Read(fd, buf)
		if !errors.Is(err, unix.EINTR) {
			return n, os.NewSyscallError("read", err)
		}
	}
}

// names lists a directory within d.
func (d dir) names(name string) (names []string, err error) {
	fd, err := unix.Openat(int(d), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var some [4096]byte
	for {
		n, err := unix.ReadDirent(fd, some[:])
		if n <= 0 || err != nil {
			return names, os.NewSyscallError("getdents", err)
		}
		_, _, names = unix.ParseDirent(some[:n], -1, names)
	}
}

// descriptor says what an open descriptor of the process is.
type descriptor struct {
	mount int // by its number
	flags int // as of open(2)
	fuse  int // the connection it serves; 0: none, or the kernel doesn't say (before Linux 6.16)
}

func (d dir) descriptor(number string) (descriptor, error) {
	text, err := d.text("fdinfo/" + number)
	if err != nil {
		return descriptor{}, err
	}
	return parseDescriptor(text)
}

// parseDescriptor parses the text of /proc/PID/fdinfo/N; see proc(5).
func parseDescriptor(text []byte) (f descriptor, err error) {
	f.mount = -1
	for line := range bytes.Lines(text) {
		key, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		number := string(bytes.TrimSpace(value))
		var n int64
		switch string(key) {
		case "flags":
			n, err = strconv.ParseInt(number, 8, 64)
			f.flags = int(n)
		case "mnt_id":
			f.mount, err = strconv.Atoi(number)
		case "fuse_connection":
			f.fuse, err = strconv.Atoi(number)
		}
		if err != nil {
			return descriptor{}, fmt.Errorf("parse descriptor: %w", err)
		}
	}
	if f.mount < 0 {
		return descriptor{}, fmt.Errorf("parse descriptor %q: no mount", text)
	}
	return f, nil
}

// mount returns the number of the mount that one of the links leads to, such as
// cwd. No file system is asked for more than it has at hand.
func (d dir) mount(link string) (int, error) {
	name, err := unix.BytePtrFromString(link)
	if err != nil {
		return 0, err
	}
	var mount int32
	var handle struct{ room, kind int32 }
	_, _, errno := unix.Syscall6(unix.SYS_NAME_TO_HANDLE_AT, uintptr(d), uintptr(unsafe.Pointer(name)),
		uintptr(unsafe.Pointer(&handle)), uintptr(unsafe.Pointer(&mount)), unix.AT_SYMLINK_FOLLOW, 0)
	switch errno {
	case 0, unix.EOVERFLOW: // there is no room for the handle, which nobody wants
		return int(mount), nil
	case unix.EOPNOTSUPP: // it has none
		return d.mountOfOpened(link)
	}
	return 0, &os.PathError{Op: "name_to_handle_at", Path: link, Err: errno}
}

// mountOfOpened is mount for what has no file handles. It is opened only to be
// pointed at.
func (d dir) mountOfOpened(link string) (int, error) {
	fd, err := unix.Openat(int(d), link, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, &os.PathError{Op: "open", Path: link, Err: err}
	}
	f := os.NewFile(uintptr(fd), link)
	defer f.Close()
	return host.MountID(f)
}

// namespace opens the mount namespace that one of the links leads to.
func (d dir) namespace(link string) (*os.File, error) {
	fd, err := unix.Openat(int(d), link, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: link, Err: err}
	}
	return os.NewFile(uintptr(fd), link), nil
}

// device returns the number of the file system that one of the links leads to,
// as stat(2) has it. It may ask the file system, but for nothing that only its
// storage would know.
func (d dir) device(name string) (uint64, error) {
	var st unix.Statx_t
	err := unix.Statx(int(d), name, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, 0, &st)
	if err != nil {
		return 0, &os.PathError{Op: "statx", Path: name, Err: err}
	}
	return unix.Mkdev(st.Dev_major, st.Dev_minor), nil
}

// status is what matters of /proc/PID/stat.
type status struct {
	command string
	state   byte
	kernel  bool // it is a thread of the kernel
	threads int
	start   uint64
}

func (d dir) status() (status, error) {
	text, err := d.text("stat")
	if err != nil {
		return status{}, err
	}
	return parseStatus(text)
}

// parseStatus parses the text of /proc/PID/stat; see proc(5). The command in
// its second field may contain spaces and brackets.
func parseStatus(text []byte) (s status, err error) {
	begin, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	fields := bytes.Fields(text[end+1:])
	const first = 3 // number of the field in fields[0]
	if begin < 0 || end < begin || len(fields) <= 22-first {
		return status{}, fmt.Errorf("parse process status %q: too short", text)
	}
	s.command, s.state = string(text[begin+1:end]), fields[0][0]
	flags, err := strconv.ParseUint(string(fields[9-first]), 10, 64)
	if err == nil {
		s.threads, err = strconv.Atoi(string(fields[20-first]))
	}
	if err == nil {
		s.start, err = strconv.ParseUint(string(fields[22-first]), 10, 64)
	}
	if err != nil {
		return status{}, fmt.Errorf("parse process status: %w", err)
	}
	s.kernel = flags&0x00200000 != 0 // PF_KTHREAD
	return s, nil
}

// ended tells that the thread, or the first one of the process, has ended.
func (s status) ended() bool { return s.state == 'Z' || s.state == 'X' }

// vanished tells whether err says that a process has ended meanwhile, or has no
// more what was looked at.
func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}
