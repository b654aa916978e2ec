//go:build ceph && cgo

package rbd

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
	"github.com/dvol/dvold/internal/host"
)

// Resize makes an image larger, and the file system on it, if it is mounted here; on
// another host that does so within seconds, and where it is not mounted, when it is.
// It is ErrInvalid to make one smaller, or as large as there is room for, and ErrInUse
// while it is mapped by krbd, which gives the lock that this takes to nobody.
func (p *Pool) Resize(ctx context.Context, handle string, size int64) error {
	return wrap("resize", handle, p.resize(ctx, handle, size))
}

func (p *Pool) resize(ctx context.Context, handle string, size int64) error {
	i, err := imageOf(handle)
	if err != nil {
		return err
	}
	if i.adopted {
		return fmt.Errorf("image %s was adopted: use rbd resize: %w", p.config.within(i.name), backends.ErrInvalid)
	}
	if err := p.checkReady(ctx, i); err != nil {
		return err
	}
	now, err := p.look(ctx, i)
	if err != nil {
		return err
	}
	if size == 0 {
		return fmt.Errorf("size: an image must have one: %w", backends.ErrInvalid)
	}
	if size = (size + align - 1) / align * align; size < now.size || size > maxSize {
		return fmt.Errorf("size: it has %d bytes, and can only be made larger: %w", now.size, backends.ErrInvalid)
	}
	done, err := p.turns.of(i).Take(ctx)
	if err != nil {
		return err
	}
	defer done()
	if size > now.size {
		if err := p.checkRoom(ctx); err != nil {
			return err
		}
		err = p.with(ctx, func(pool *rados.IOContext) error {
			return p.writing(pool, i, func(img *rbd.Image) error {
				there, err := img.GetSize()
				if err != nil || int64(there) >= size { // never smaller, whoever was faster
					return err
				}
				return img.Resize(uint64(size))
			})
		})
		if ceph.Errno(err) == unix.EROFS {
			return fmt.Errorf("image %s is mapped by a kernel that lets go of its lock for nobody (krbd): stop its containers first: %w", p.config.within(i.name), backends.ErrInUse)
		}
		if err != nil {
			return err
		}
	}
	mounts, err := p.mounts(i)
	if err != nil || len(mounts) == 0 {
		return err
	}
	for _, m := range mounts {
		if !host.IsReadOnly(m) {
			return p.growMounted(ctx, i, m.Mountpoint)
		}
	}
	return nil
}

// onDevice tells whether a file is in the file system of a device.
func onDevice(info os.FileInfo, b block) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(unix.Major(st.Dev)) == b.major && int(unix.Minor(st.Dev)) == b.minor
}
