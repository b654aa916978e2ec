package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// storageDir is where the storage is mounted on the hosts. Nothing can be made
// in the directory beneath.
const storageDir = "/dfs"

// newSshfs describes a host's client of the storage: each host has a connection
// and a superblock of its own.
//
// It caches nothing, so that hosts see what others have written, and waits for
// the server to have done each write and fsync; but an fsync of a directory
// does nothing. It waits without end for a server that it is cut off from. If
// the server ends the connection, the client ends, and is not started again:
// the mount stays, and fails with ENOTCONN.
//
// SFTP is less than POSIX. What anybody makes belongs to root. An error that SFTP
// has no code for is EPERM, such as that the disk is full or a directory is not
// empty. Absolute links can't be read, nothing but files, directories and links
// be made; there are no link counts and no fractions of seconds. A directory
// that is read from the start again, by the same descriptor, is empty.
func newSshfs(h *Host) *Daemon {
	argv := func(args []string) []string {
		return append([]string{"sshfs", "-f", "-F", "/etc/lab/ssh_config", "storage:" + h.server.Data("."), "/dev/fd/3",
			"-o", "direct_io,sshfs_sync,dir_cache=no,sync_readdir",
			"-o", "entry_timeout=0,attr_timeout=0,negative_timeout=0"}, args...)
	}
	d := &Daemon{name: "sshfs", m: h.Machine, argv: argv, patience: 30 * time.Second}
	d.answers = func(ctx context.Context) error { return h.reachesStorage(ctx) }
	d.prepare = func(cmd *exec.Cmd) error {
		if err := patient(h.Machine); err != nil {
			return err
		}
		server, err := h.mountStorage()
		if err != nil {
			return err
		}
		cmd.ExtraFiles = []*os.File{server} // its descriptor 3
		return nil
	}
	return d
}

// mountStorage replaces what is mounted at storageDir by a file system that the
// owner of the returned file is to serve. sshfs could do that itself, but would
// then undo it in its end, and bare the directory beneath.
func (h *Host) mountStorage() (server *os.File, err error) {
	err = h.inside(unix.CLONE_NEWNS, func() error {
		err := unix.Unmount(storageDir, unix.MNT_DETACH)
		if err != nil && !errors.Is(err, unix.EINVAL) { // not mounted
			return fmt.Errorf("unmount %s: %w", storageDir, err)
		}
		fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0) // not by package os, which would make it non-blocking
		if err != nil {
			return fmt.Errorf("open /dev/fuse: %w", err)
		}
		server = os.NewFile(uintptr(fd), "/dev/fuse")
		data := fmt.Sprintf("fd=%d,rootmode=40755,user_id=0,group_id=0,default_permissions,allow_other", fd)
		if err := unix.Mount("storage", storageDir, "fuse.sshfs", unix.MS_NOSUID|unix.MS_NODEV, data); err != nil {
			server.Close()
			return fmt.Errorf("mount %s: %w", storageDir, err)
		}
		return nil
	})
	return server, err
}

// reachesStorage returns nil once the storage answers. It returns with ctx,
// though it may leave a thread waiting until the client ends.
func (h *Host) reachesStorage(ctx context.Context) error {
	answered := make(chan error, 1)
	go func() {
		answered <- h.inside(unix.CLONE_NEWNS, func() error {
			var now unix.Statfs_t
			return unix.Statfs(storageDir, &now)
		})
	}()
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// RemountStorage mounts the storage anew at /dfs, whatever is mounted there. A
// mount of before that is bound elsewhere stays there, dead.
func (h *Host) RemountStorage(ctx context.Context) error {
	if h.Storage == nil {
		return fmt.Errorf("remount storage on %s: it has none", h.name)
	}
	if h.Storage.Running() {
		if err := h.Storage.Kill(); err != nil {
			return err
		}
	}
	return h.Storage.Start(ctx)
}

// patient has a machine's kernel keep connections over a cut of some minutes,
// and notice within a second that it is over.
func patient(m *Machine) error {
	err := m.inside(unix.CLONE_NEWNET, func() error {
		const settings = "/proc/sys/net/ipv4/"
		err := os.WriteFile(settings+"tcp_rto_max_ms", []byte("1000"), 0)
		if errors.Is(err, fs.ErrNotExist) { // before Linux 6.15: it takes as long again as the cut did
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(settings+"tcp_retries2", []byte("255"), 0)
	})
	if err != nil {
		return fmt.Errorf("network of %s: %w", m.name, err)
	}
	return nil
}
