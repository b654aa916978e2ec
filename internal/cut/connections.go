package cut

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// connections are those of FUSE, by their numbers, which are those of their file systems:
// the kernel gives the number of one that is gone to the next, of whatever kind, at once. So
// those that were met at a volume's mountpoint are known by more: in the FUSE control file
// system, for as long as somebody has it open, the directory of a connection has an inode
// that no later one has. The zero value is ready for use.
type connections struct {
	mu      sync.Mutex // guards the fields below
	control *os.File   // from when on it is needed
	met     map[connection]uint64
}

// connection is one of a volume, by the number that it has or had.
type connection struct {
	volume string
	number int
}

// meet takes down which connection has a number now, which is that of a volume.
func (c *connections) meet(volume string, number int) {
	inode, err := c.inode(number)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || inode == 0 {
		delete(c.met, connection{volume, number})
		return
	}
	if c.met == nil {
		c.met = make(map[connection]uint64)
	}
	c.met[connection{volume, number}] = inode
}

// forget forgets what was met of a volume.
func (c *connections) forget(volume string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for met := range c.met {
		if met.volume == volume {
			delete(c.met, met)
		}
	}
}

// over tells whether the connection of a volume that was met with a number is known to be
// gone, whoever has the number now.
func (c *connections) over(volume string, number int) bool {
	c.mu.Lock()
	was, ok := c.met[connection{volume, number}]
	c.mu.Unlock()
	if !ok {
		return false
	}
	now, err := c.inode(number)
	return err == nil && now != was
}

// inode is that of the directory of a connection, which is there until its file system is
// gone; 0 if there is none.
func (c *connections) inode(number int) (uint64, error) {
	dir, err := c.open()
	if err != nil {
		return 0, err
	}
	var st unix.Stat_t
	err = unix.Fstatat(int(dir.Fd()), strconv.Itoa(number), &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	return st.Ino, os.NewSyscallError("fstatat", err)
}

// abort ends a connection: nothing comes to whoever serves it any more.
func (c *connections) abort(number int) error {
	dir, err := c.open()
	if err != nil {
		return err
	}
	path := strconv.Itoa(number) + "/abort"
	fd, err := unix.Openat(int(dir.Fd()), path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte("1"))
	return os.NewSyscallError("write", err)
}

// open opens the FUSE control file system, whether or not it is mounted.
func (c *connections) open() (*os.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.control != nil {
		return c.control, nil
	}
	context, err := unix.Fsopen("fusectl", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(context)
	if err := unix.FsconfigCreate(context); err != nil {
		return nil, os.NewSyscallError("fsconfig", err)
	}
	dir, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fsmount", err)
	}
	c.control = os.NewFile(uintptr(dir), "fusectl")
	return c.control, nil
}
