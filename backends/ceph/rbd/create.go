//go:build ceph && cgo

package rbd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/internal/host"
)

// volumeDir is the directory of a file system that is the volume. What lies beside it,
// such as lost+found, is none of the containers' business.
const volumeDir = "volume"

// Create makes an image with a file system. The image is mapped on this host meanwhile.
func (p *Pool) Create(ctx context.Context, v backends.Volume) error {
	return wrap("create", v.Handle, p.create(ctx, v))
}

func (p *Pool) create(ctx context.Context, v backends.Volume) error {
	i, err := imageOf(v.Handle)
	if err != nil {
		return err
	}
	if i.adopted {
		_, err := p.look(ctx, i)
		return err
	}
	done, err := p.turns.of(i).Take(ctx)
	if err != nil {
		return err
	}
	defer done()
	s, err := p.state(ctx, i)
	if err != nil {
		return err
	}
	switch s.Step {
	case ready:
		_, err := p.look(ctx, i)
		return err
	case removing:
		return fmt.Errorf("it is being removed: %w", backends.ErrInUse)
	}
	if err := p.checkRoom(ctx); err != nil {
		return err
	}
	if s.Step == "" {
		s = state{Step: making, FS: v.Options[optionFS], UUID: newUUID()}
		if err := p.setState(ctx, i, s); err != nil {
			return err
		}
	}
	if err := p.make(ctx, i, v.Size); err != nil {
		return err
	}
	if err := p.fill(ctx, i, s, v); err != nil {
		return err
	}
	s.Step = ready
	return p.setState(ctx, i, s)
}

// fill makes the file system of an image and the directory in it.
func (p *Pool) fill(ctx context.Context, i image, s state, v backends.Volume) (err error) {
	if err := p.vacate(ctx, i); err != nil { // what a Create has left that was cut short
		return err
	}
	if s.Step == making {
		// Before it is mapped: a look at the device would be one at its ends.
		blank, err := p.isBlank(ctx, i)
		if err == nil && !blank {
			err = errContents
		}
		if err != nil {
			return fmt.Errorf("image %s: %w", p.config.within(i.name), err)
		}
	}
	m, _, err := p.connect(ctx, i, "")
	if err != nil {
		return err
	}
	defer func() {
		if released := p.release(context.WithoutCancel(ctx), i); err == nil {
			err = released
		}
	}()
	if err := p.checkContents(ctx, m.block, s); err != nil {
		return fmt.Errorf("image %s: %w", p.config.within(i.name), err)
	}
	if s.Step == making {
		s.Step = formatting
		if err := p.setState(ctx, i, s); err != nil {
			return err
		}
	}
	return p.whileRoom(ctx, i, func(ctx context.Context) error {
		if err := makeFS(ctx, m.block, s); err != nil {
			return err
		}
		return p.inside(ctx, i, m, false, func(root *os.File) error { return makeVolumeDir(root, v) })
	})
}

// roomPause is how often the cluster is asked whether there is room still.
const roomPause = 2 * time.Second

// whileRoom calls f, which writes to an image that nobody has yet, and gives up once the
// pool is full: what is written then waits until it is not.
func (p *Pool) whileRoom(ctx context.Context, i image, f func(context.Context) error) error {
	ctx, end := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(roomPause)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			err := p.checkRoom(ctx)
			if !errors.Is(err, backends.ErrNoSpace) {
				continue
			}
			end(err)
			abandon, err := p.mapper.abandoner(i)
			if err == nil {
				err = abandon()
			}
			if err != nil {
				p.log.Warn("a client that waits for room was not ended", "image", p.config.within(i.name), "err", err)
			}
			return
		}
	})
	err := f(ctx)
	full := context.Cause(ctx)
	end(nil)
	watching.Wait()
	if err != nil && errors.Is(full, backends.ErrNoSpace) {
		return full
	}
	return err
}

var errContents = fmt.Errorf("it has contents that dvold did not put there, so no file system is made on it: look what it is, and delete or rename it: %w", backends.ErrInvalid)

// checkContents returns an error unless all that is on a device is nothing, or, if one
// was begun, the file system that is to be made there.
func (p *Pool) checkContents(ctx context.Context, b block, s state) error {
	if s.Step == making {
		zero, err := within(ctx, &p.hanging, "look at the ends of "+b.path, b.endsAreZero, nil)
		if err == nil && !zero {
			err = errContents
		}
		return err
	}
	there, err := within(ctx, &p.hanging, "read "+b.path, b.read, nil)
	if err == nil && there.kind != "" && there.uuid != s.UUID {
		err = fmt.Errorf("there is a file system, %s %s: %w", there.kind, there.uuid, errContents)
	}
	return err
}

// makeVolumeDir makes the directory that is the volume, durably, with the owner and
// mode asked for, whatever the umask.
func makeVolumeDir(root *os.File, v backends.Volume) error {
	err := unix.Mkdirat(int(root.Fd()), volumeDir, 0o700)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return &os.PathError{Op: "mkdir", Path: volumeDir, Err: err}
	}
	dir, err := host.OpenWithin(root, volumeDir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := local.Own(dir, v); err != nil {
		return err
	}
	if err := dir.Sync(); err != nil {
		return err
	}
	return root.Sync()
}

// newUUID is a random one, as of RFC 9562, version 4.
func newUUID() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // it never fails
	raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
	return uuidText(raw[:])
}
