package host

import (
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Project is the project a file carries; 0 is that of all which have none.
type Project struct {
	ID uint32
	// Inherited says that what is made in the directory gets its project, and
	// that a file of another is neither renamed nor linked into it.
	Inherited bool
}

// The ioctls of linux/fs.h, encoded as on x86 and ARM.
const (
	getAttributes  = 0x801c581f // FS_IOC_FSGETXATTR
	setAttributes  = 0x401c5820 // FS_IOC_FSSETXATTR
	projectInherit = 0x200      // FS_XFLAG_PROJINHERIT
)

type attributes struct {
	flags, extentSize, extents, project, copySize uint32
	_                                             [8]byte
}

// ProjectOf returns the project of a file. Where there are no projects it is
// the zero one.
func ProjectOf(f *os.File) (Project, error) {
	var a attributes
	err := attributesCall(f, getAttributes, &a)
	if isAnyOf(err, unix.ENOTTY, unix.EOPNOTSUPP, unix.EINVAL) {
		return Project{}, nil
	}
	return Project{ID: a.project, Inherited: a.flags&projectInherit != 0}, err
}

// SetProject has an empty directory carry the project, and all that is made in
// it later inherit that. A process that owns a file, unless it lives in a user
// namespace, may change the file's project at any time.
func SetProject(dir *os.File, project uint32) error {
	var a attributes
	if err := attributesCall(dir, getAttributes, &a); err != nil {
		return err
	}
	a.project = project
	a.flags |= projectInherit
	return attributesCall(dir, setAttributes, &a)
}

func attributesCall(f *os.File, request uintptr, a *attributes) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(a)))
	runtime.KeepAlive(f)
	if errno != 0 {
		return &os.PathError{Op: "project of", Path: f.Name(), Err: errno}
	}
	return nil
}
