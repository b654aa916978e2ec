package cut

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// provable tells whether there is proof of the end of the target's file system,
// beyond that it is mounted nowhere: then nothing that was written is under way
// any more, and nothing has to be synced.
func (t target) provable() bool { return t.sole && (t.major != 0 || isFUSE(t.kind)) }

// gone returns nil once the file system of a target that is provable has come
// to its end. What keeps it may not be seen anywhere else: a descriptor on its
// way through a socket, say.
func (r *run) gone(ctx context.Context, t target) error {
	return r.c.calls.Run(ctx, "look for the end of "+t.String(), func() error {
		if t.major != 0 {
			return released(t.major, t.minor)
		}
		inode, err := r.c.connections.inode(t.minor)
		if err == nil && inode != 0 && !r.c.connections.over(r.v.ID, t.minor) {
			err = errors.New("still there, though it is mounted nowhere")
		}
		return err
	})
}

// released returns nil if no file system and nothing else has claimed a block
// device for itself.
func released(major, minor int) error {
	event, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/uevent", major, minor))
	if errors.Is(err, fs.ErrNotExist) { // taken away
		return nil
	}
	if err != nil {
		return err
	}
	path := ""
	for line := range bytes.Lines(event) {
		if name, ok := strings.CutPrefix(string(bytes.TrimSpace(line)), "DEVNAME="); ok {
			path = "/dev/" + name
		}
	}
	// With O_EXCL a block device is opened only if nobody claims it: open(2).
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_EXCL|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if want := unix.Mkdev(uint32(major), uint32(minor)); st.Mode&unix.S_IFMT != unix.S_IFBLK || st.Rdev != want {
		return fmt.Errorf("%s is not the block device %d:%d", path, major, minor)
	}
	return nil
}
