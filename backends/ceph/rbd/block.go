//go:build ceph && cgo

package rbd

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
)

// block is a block device.
type block struct {
	path         string
	major, minor int
}

// blockAt returns the device of a path.
func blockAt(path string) (block, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return block{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return block{}, fmt.Errorf("%s is no block device", path)
	}
	return block{path, int(unix.Major(st.Rdev)), int(unix.Minor(st.Rdev))}, nil
}

// claim opens the device for nobody else to use, which is ErrInUse while a file
// system of it is mounted, in whatever mount namespace; see O_EXCL in open(2).
func (b block) claim(flags int) (*os.File, error) {
	f, err := os.OpenFile(b.path, flags|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("a file system of %s is mounted: %w", b.path, backends.ErrInUse)
	}
	return f, err
}

// busy tells whether a file system of the device is mounted anywhere on this host.
func (b block) busy() (bool, error) {
	f, err := b.claim(unix.O_RDONLY)
	if errors.Is(err, backends.ErrInUse) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, f.Close()
}

// size is that of the device, in bytes.
func (b block) size() (int64, error) {
	sectors, err := sysNumber(fmt.Sprintf("/sys/dev/block/%d:%d/size", b.major, b.minor))
	return sectors * 512, err
}

// isReadOnly tells whether the kernel lets nobody write to the device.
func (b block) isReadOnly() (bool, error) {
	n, err := sysNumber(fmt.Sprintf("/sys/dev/block/%d:%d/ro", b.major, b.minor))
	return n != 0, err
}

func sysNumber(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}
