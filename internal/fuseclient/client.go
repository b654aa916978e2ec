package fuseclient

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

// Client is a process that has mounted its file system. It may have been started
// by an earlier dvold.
type Client struct {
	host.Process
	Mountpoint   string // that it was started for
	major, minor int    // of the file system
}

// killTime is how long a client may take to end after it was killed.
const killTime = 5 * time.Second

// start makes the mountpoint and starts a client, which answers for the root of
// its file system when start returns. After an error nothing is left, unless the error says so.
func (s Spec) start(ctx context.Context, mountpoint string) (*Client, error) {
	if err := os.MkdirAll(filepath.Dir(s.Log), 0o755); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(mountpoint), 0o700); err != nil {
		return nil, err
	}
	if err := os.Mkdir(mountpoint, 0o700); err != nil {
		return nil, err
	}
	c, err := s.try(ctx, mountpoint)
	if err != nil {
		return nil, errors.Join(err, host.RemoveMountpoint(mountpoint))
	}
	return c, nil
}

func (s Spec) try(ctx context.Context, mountpoint string) (*Client, error) {
	args, err := s.Args(ctx)
	if err != nil {
		return nil, err
	}
	from := logSize(s.Log)
	p, err := s.spawn(append(args[:len(args):len(args)], mountpoint))
	if err != nil {
		return nil, err
	}
	defer p.said.Close()
	c, err := s.await(ctx, p, mountpoint)
	if err == nil {
		return c, nil
	}
	ending := s.discard(p, mountpoint)
	err = cmp.Or(s.Cause(logSince(s.Log, from)+p.output()), err)
	if ctx.Err() != nil && !errors.Is(err, context.Cause(ctx)) {
		err = fmt.Errorf("%w: %w", err, context.Cause(ctx))
	}
	if ending != nil {
		err = fmt.Errorf("%w; %w", err, ending)
	}
	return nil, err
}

// discard ends a client that did not come up: nothing was handed out that it serves.
// A glusterfs mounts by a child, which may outlive it, and mount then (contrib/fuse-lib/mount.c).
func (k Kind) discard(p *process, mountpoint string) error {
	if err := kill(p.Process); err != nil {
		return err
	}
	select {
	case <-p.ended:
	case <-time.After(killTime):
		return fmt.Errorf("its client, process %d, does not end", p.PID)
	}
	children, err := k.At(mountpoint)
	if err != nil {
		return err
	}
	for _, c := range children {
		if err := kill(c); err != nil {
			return err
		}
		if err := awaitEnd(context.Background(), c, killTime); err != nil {
			return err
		}
	}
	return unmountDead(mountpoint)
}

// await waits until a client has mounted its file system, and the root of that
// answers.
func (s Spec) await(ctx context.Context, p *process, mountpoint string) (*Client, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		mounted, err := host.IsMountpoint(mountpoint)
		if err != nil {
			return nil, err
		}
		if mounted {
			break
		}
		select {
		case <-p.ended:
			return nil, fmt.Errorf("client ended: %s: %w", cmp.Or(p.output(), "see "+s.Log), backends.ErrUnavailable)
		case <-ctx.Done():
			return nil, fmt.Errorf("no server of the pool has answered: %w: %w", backends.ErrUnavailable, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
	if err := answers(ctx, mountpoint); err != nil {
		return nil, fmt.Errorf("root of %s: %w: %w", s.Name, backends.ErrUnavailable, err)
	}
	c, err := s.found(p.Process, mountpoint)
	if err == nil && c == nil {
		err = fmt.Errorf("client ended: see %s: %w", s.Log, backends.ErrUnavailable)
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
func (k Kind) found(p host.Process, mountpoint string) (*Client, error) {
	m, err := host.MountedAt(mountpoint)
	if err != nil || m == nil || m.FSType != k.FSType || !p.Alive() {
		return nil, err
	}
	return &Client{p, mountpoint, m.Major, m.Minor}, nil
}

// healthy tells whether the client runs and its mountpoint is one. It asks
// nothing of the storage, which may hang.
func (c *Client) healthy() bool {
	mounted, err := host.IsMountpoint(c.Mountpoint)
	return err == nil && mounted && c.Alive()
}

// hold mounts the client's file system at its mountpoint once more. A client that
// ends by itself, as one does that its servers reject, unmounts the upper of the
// two: the other tells that there is something to be healed.
func (c *Client) hold() error {
	root, err := os.OpenFile(c.Mountpoint, unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	m, err := host.MountedAt(c.Mountpoint)
	if err == nil && m == nil {
		err = &os.PathError{Op: "hold", Path: c.Mountpoint, Err: unix.ENOTCONN}
	}
	if err != nil {
		return err
	}
	return host.BindOver(root, nil, m, false)
}

// end unmounts the client's file system, with which it ends, unless it is bound
// elsewhere.
func (c *Client) end(ctx context.Context, limit time.Duration) error {
	if err := host.Unmount(c.Mountpoint); err != nil {
		return err
	}
	if err := awaitEnd(ctx, c.Process, limit); err != nil { // a container that another engine runs may have a volume
		return err
	}
	return host.RemoveMountpoint(c.Mountpoint)
}

// unmountDead takes away what a client that has ended had mounted. Who still has
// something open there, such as a call that hung until then, does not keep it:
// nothing can be read or written through it. What a client has started may have its
// connection with the kernel still, and wait by it for an answer from itself, as the
// mount(8) of a ceph-fuse that was killed then; force ends that.
func unmountDead(mountpoint string) error {
	_ = unix.Unmount(mountpoint, unix.MNT_FORCE|unix.UMOUNT_NOFOLLOW) // it may be busy, and is aborted then
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
func awaitEnd(ctx context.Context, p host.Process, most time.Duration) error {
	limit, cancel := context.WithTimeout(ctx, most)
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
