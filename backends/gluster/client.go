package gluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// spec says what client is to be started.
type spec struct {
	servers        []string
	volume, subdir string
	tls            bool // between clients and glusterd
	options        []string
	mountpoint     string
	log            string
}

// client is a glusterfs process that has mounted its file system. It may have
// been started by an earlier dvold.
type client struct {
	host.Process
	mountpoint   string
	major, minor int // of the file system
}

// fileSystem is the type that a mount table gives for it.
const fileSystem = "fuse.glusterfs"

// endTime is how long a client may take to end once its file system is gone, or
// after it was killed.
const endTime = 5 * time.Second

// start makes the mountpoint and starts a client, which answers for the root of
// its file system when start returns. After an error nothing is left, unless the error says so.
func (s spec) start(ctx context.Context) (*client, error) {
	if err := os.MkdirAll(filepath.Dir(s.log), 0o755); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(s.mountpoint), 0o700); err != nil {
		return nil, err
	}
	if err := os.Mkdir(s.mountpoint, 0o700); err != nil {
		return nil, err
	}
	c, err := s.try(ctx)
	if err != nil {
		return nil, errors.Join(err, host.RemoveMountpoint(s.mountpoint))
	}
	return c, nil
}

func (s spec) try(ctx context.Context) (*client, error) {
	servers, err := s.answering(ctx)
	if err != nil {
		return nil, err
	}
	from := logSize(s.log)
	c, err := s.startOnce(ctx, servers)
	if err == nil {
		return c, nil
	}
	err = cmp.Or(s.cause(from), err)
	if ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
		err = fmt.Errorf("%w: %w", err, context.Cause(ctx))
	}
	return nil, err
}

func (s spec) args(servers []string) []string {
	args := []string{"--no-daemon", "--process-name=fuse", "--volfile-id=" + s.volume, "--log-file=" + s.log}
	for _, server := range servers {
		args = append(args, "--volfile-server="+server)
	}
	if s.subdir != "" {
		args = append(args, "--subdir-mount=/"+s.subdir)
	}
	return append(append(args, s.options...), s.mountpoint)
}

func (s spec) startOnce(ctx context.Context, servers []string) (*client, error) {
	p, err := spawn(s.args(servers))
	if err != nil {
		return nil, err
	}
	defer p.said.Close()
	c, err := s.await(ctx, p)
	if err == nil {
		return c, nil
	}
	// Nothing was handed out that it serves.
	if err := kill(p.Process); err != nil {
		return nil, err
	}
	select {
	case <-p.ended:
	case <-time.After(endTime):
		return nil, fmt.Errorf("%w; its client, process %d, does not end", err, p.PID)
	}
	if unmounting := unmountDead(s.mountpoint); unmounting != nil {
		return nil, fmt.Errorf("%w; %w", err, unmounting)
	}
	return nil, err
}

// await waits until a client has mounted its file system, and the root of that
// answers.
func (s spec) await(ctx context.Context, p *process) (*client, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		mounted, err := host.IsMountpoint(s.mountpoint)
		if err != nil {
			return nil, err
		}
		if mounted {
			break
		}
		select {
		case <-p.ended:
			return nil, fmt.Errorf("client ended: %s: %w", cmp.Or(p.output(), "see "+s.log), backends.ErrUnavailable)
		case <-ctx.Done():
			return nil, fmt.Errorf("no server of the pool has answered: %w: %w", backends.ErrUnavailable, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
	if err := answers(ctx, s.mountpoint); err != nil {
		return nil, fmt.Errorf("root of Gluster volume %s: %w: %w", s.volume, backends.ErrUnavailable, err)
	}
	c, err := found(p.Process, s.mountpoint)
	if err == nil && c == nil {
		err = fmt.Errorf("client ended: see %s: %w", s.log, backends.ErrUnavailable)
	}
	return c, err
}

// answers looks at the root of a file system. It leaves the look behind when ctx
// ends.
func answers(ctx context.Context, mountpoint string) error {
	done := make(chan error, 1)
	go func() {
		_, err := os.Stat(mountpoint)
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("its servers don't answer: %w", context.Cause(ctx))
	}
}

// found returns the client that a process is, or nil if it has ended or has
// nothing mounted at mountpoint.
func found(p host.Process, mountpoint string) (*client, error) {
	m, err := host.MountedAt(mountpoint)
	if err != nil || m == nil || m.FSType != fileSystem || !p.Alive() {
		return nil, err
	}
	return &client{p, mountpoint, m.Major, m.Minor}, nil
}

// healthy tells whether the client runs and its mountpoint is one. It asks
// nothing of the storage, which may hang.
func (c *client) healthy() bool {
	mounted, err := host.IsMountpoint(c.mountpoint)
	return err == nil && mounted && c.Alive()
}

// hold mounts the client's file system at its mountpoint once more. A client that
// ends by itself, as one does that the bricks reject, unmounts the upper of the
// two: the other tells that there is something to be healed.
func (c *client) hold() error {
	root, err := os.OpenFile(c.mountpoint, unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	m, err := host.MountedAt(c.mountpoint)
	if err == nil && m == nil {
		err = &os.PathError{Op: "hold", Path: c.mountpoint, Err: unix.ENOTCONN}
	}
	if err != nil {
		return err
	}
	return host.BindOver(root, nil, m, false)
}

// end unmounts the client's file system, with which it ends, unless it is bound
// elsewhere.
func (c *client) end(ctx context.Context) error {
	if err := host.Unmount(c.mountpoint); err != nil {
		return err
	}
	if err := awaitEnd(ctx, c.Process); err != nil { // a container that another engine runs may have a volume
		return err
	}
	return host.RemoveMountpoint(c.mountpoint)
}

// unmountDead takes away what a client that has ended had mounted. Who still has
// something open there, such as a call that hung until then, does not keep it:
// nothing can be read or written through it.
func unmountDead(mountpoint string) error {
	for {
		mounted, err := host.IsMountpoint(mountpoint)
		if err != nil || !mounted {
			return err
		}
		if err := unix.Unmount(mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return &os.PathError{Op: "unmount", Path: mountpoint, Err: err}
		}
	}
}

// awaitEnd waits until a process has ended, for some time.
func awaitEnd(ctx context.Context, p host.Process) error {
	limit, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	for pause := time.Millisecond; p.Alive(); pause = min(2*pause, 50*time.Millisecond) {
		select {
		case <-time.After(pause):
		case <-limit.Done():
			return fmt.Errorf("client, process %d, does not end: %w", p.PID, backends.ErrInUse)
		}
	}
	return nil
}
