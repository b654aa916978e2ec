//go:build ceph && cgo

package rbd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/fuseclient"
	"github.com/dvol/dvold/internal/hang"
	"github.com/dvol/dvold/internal/host"
)

// fuseMapper maps images with rbd-fuse, see rbd-fuse(8), which shows one as a file, and a loop device
// that shows the file. Each image has a process of its own.
//
// rbd-fuse lets go of the lock of an image when another client asks for it: with it
// two hosts are kept apart by dvold's own records, and by fences, alone.
type fuseMapper struct {
	config  Config
	dir     string // of the mountpoints
	log     *slog.Logger
	hanging hang.Calls
}

// client tells the processes of rbd-fuse.
var client = fuseclient.Kind{Program: "rbd-fuse", FSType: "fuse.rbd-fuse", EndTime: endTime}

// point is where rbd-fuse shows the image, and file what is shown.
func (f *fuseMapper) point(i image) string { return filepath.Join(f.dir, i.key()) }
func (f *fuseMapper) file(i image) string  { return filepath.Join(f.point(i), i.name) }

func (f *fuseMapper) find(i image) (*mapping, error) {
	b, err := loopOf(f.file(i))
	if err != nil || b == nil {
		return nil, err
	}
	readOnly, err := b.isReadOnly()
	if err != nil {
		return nil, err
	}
	running, err := client.At(f.point(i))
	if err != nil {
		return nil, err
	}
	return &mapping{block: *b, readOnly: readOnly, ended: len(running) == 0}, nil
}

func (f *fuseMapper) all() ([]image, error) {
	files, err := loopFiles()
	var all []image
	for _, file := range files {
		if i := imageNamed(filepath.Base(file)); f.file(i) == file {
			all = append(all, i)
		}
	}
	return all, err
}

func (f *fuseMapper) attach(ctx context.Context, i image, readOnly bool) (*mapping, error) {
	if err := os.Mkdir(f.point(i), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	if err := f.start(ctx, i); err != nil {
		return nil, err
	}
	mode := os.O_RDWR
	if readOnly {
		mode = os.O_RDONLY
	}
	open := func() (*os.File, error) { return os.OpenFile(f.file(i), mode, 0) }
	file, err := within(ctx, &f.hanging, "open "+f.file(i), open, func(late *os.File) { late.Close() })
	if err != nil {
		return nil, fmt.Errorf("rbd-fuse: %w", err)
	}
	defer file.Close()
	b, err := attachLoop(file, readOnly)
	if err != nil {
		return nil, err
	}
	return &mapping{block: b, readOnly: readOnly}, nil
}

// start starts rbd-fuse, which shows the image once start returns.
func (f *fuseMapper) start(ctx context.Context, i image) error {
	args := append(f.config.Cluster.Arguments(),
		"-f", "--log-file=", "--admin-socket=", // it would leave them behind
		"--err-to-stderr=false", // which is a file that nobody empties
		"--rbd-cache=false",     // what is written is with the cluster before anything else is
		"-o", "attr_timeout=0",  // an image may become larger
		"-o", "big_writes", // or else each page is a request by itself
		"-p", f.config.Pool, "-r", i.name)
	if f.config.Namespace != "" {
		args = append(args, "--namespace="+f.config.Namespace)
	}
	c, err := client.Start(append(args, f.point(i)))
	if err != nil {
		return err
	}
	defer c.Close()
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		mounted, err := host.IsMountpoint(f.point(i))
		if err != nil {
			return err
		}
		if mounted {
			break
		}
		select {
		case <-c.Ended():
			said := c.Output()
			last := said[strings.LastIndexByte(said, '\n')+1:]
			return fmt.Errorf("rbd-fuse ended: %s: %w", cmp.Or(last, "it said nothing"), backends.ErrUnavailable)
		case <-ctx.Done():
			return fmt.Errorf("rbd-fuse shows nothing yet: %w: %w", backends.ErrUnavailable, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
	return nil
}

func (f *fuseMapper) detach(ctx context.Context, i image) error {
	b, err := loopOf(f.file(i))
	if err != nil {
		return err
	}
	if b != nil {
		lost := func(err error) {
			f.log.Warn("what was written last did not reach the image", "image", i.name, "err", err)
		}
		if err := detachLoop(ctx, *b, f.file(i), lost); err != nil {
			return err
		}
	}
	running, err := client.At(f.point(i))
	if err != nil {
		return err
	}
	if err := host.UnmountSoon(ctx, f.point(i)); err != nil {
		return err
	}
	for _, p := range running {
		// The file system is gone, and with it all that it was asked for.
		ctx := context.WithoutCancel(ctx)
		if fuseclient.AwaitEnd(ctx, p, endTime) == nil {
			continue
		}
		f.log.Warn("rbd-fuse did not end when its image was let go, and is killed", "process", p.PID, "image", i.name)
		if err := fuseclient.Kill(p); err != nil {
			return err
		}
		if err := fuseclient.AwaitEnd(ctx, p, endTime); err != nil {
			return fmt.Errorf("rbd-fuse: %w", err)
		}
	}
	return host.RemoveMountpoint(f.point(i))
}

// abandoner ends rbd-fuse, which does not give up by itself when it is fenced: it tries to
// get the lock back for ever, and who has written waits.
func (f *fuseMapper) abandoner(i image) (func() error, error) {
	running, err := client.At(f.point(i))
	return func() error {
		for _, p := range running {
			if err := fuseclient.Kill(p); err != nil {
				return err
			}
		}
		return nil
	}, err
}

// refresh asks for the size of the file, which the kernel may have known from before.
func (f *fuseMapper) refresh(i image, m *mapping) error {
	if _, err := os.Stat(f.file(i)); err != nil {
		return err
	}
	device, err := os.OpenFile(m.path, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer device.Close()
	return os.NewSyscallError("LOOP_SET_CAPACITY", unix.IoctlSetInt(int(device.Fd()), unix.LOOP_SET_CAPACITY, 0))
}

func (f *fuseMapper) peers(_ context.Context, i image) ([]netip.Addr, error) {
	running, err := client.At(f.point(i))
	if err != nil {
		return nil, err
	}
	var all []netip.Addr
	for _, p := range running {
		some, err := p.Peers()
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}
