//go:build ceph && cgo

package rbd

import (
	"context"
	"fmt"
	"time"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
)

// watchPause is how often the cluster is asked whether a client that died counts
// still.
const watchPause = 500 * time.Millisecond

// connect returns the mapping of an image, and its client's address, after it was
// mapped if need be. An earlier client of this host, or of an owner that died, unless
// it is that one, is refused by the cluster from then on: what it had sent may still be
// on its way.
func (p *Pool) connect(ctx context.Context, i image, earlier ceph.Address) (*mapping, ceph.Address, error) {
	wait := p.config.MountTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("it took more than %v (mount_timeout)", wait))
	defer cancel()
	m, a, err := p.standing(ctx, i)
	if err == nil && m == nil {
		return p.mapAnew(ctx, i, earlier)
	}
	if err == nil && earlier != "" && earlier != a {
		err = p.refuse(ctx, i, earlier, p.fencer.BlocklistEnded)
	}
	return m, a, err
}

// standing returns the mapping that there is, to write to, and its client. What is of
// no use is taken away, unless it is mounted, which is ErrInUse.
func (p *Pool) standing(ctx context.Context, i image) (*mapping, ceph.Address, error) {
	m, err := p.mapper.find(i)
	if err != nil {
		return nil, "", err
	}
	var why error
	if m != nil {
		if m.readOnly {
			why = fmt.Errorf("it is mapped read-only, as %s", m.path)
		} else {
			a, err := p.client(ctx, i, m)
			if err == nil {
				return m, a, nil
			}
			why = err
		}
		busy, err := m.busy()
		if err != nil {
			return nil, "", err
		}
		if busy {
			return nil, "", fmt.Errorf("%w; a file system of it is mounted: stop its containers, and start them again: %w", why, backends.ErrInUse)
		}
		p.log.Warn("an image is mapped anew", "image", p.config.within(i.name), "err", why)
	}
	return nil, "", p.mapper.detach(ctx, i)
}

// mapAnew maps an image that is not mapped, once no other client has it. In a full pool
// whoever maps it, or mounts what is on it, would wait.
func (p *Pool) mapAnew(ctx context.Context, i image, earlier ceph.Address) (*mapping, ceph.Address, error) {
	if err := p.checkRoom(ctx); err != nil {
		return nil, "", err
	}
	if earlier != "" {
		if err := p.refuse(ctx, i, earlier, p.fencer.BlocklistEnded); err != nil {
			return nil, "", err
		}
	}
	if err := p.awaitNobody(ctx, i); err != nil {
		return nil, "", err
	}
	p.seen.disconnected(i)
	begin := time.Now()
	m, err := p.mapper.attach(ctx, i, false)
	if err != nil {
		return nil, "", p.undo(ctx, i, fmt.Errorf("map image %s: %w", p.config.within(i.name), err))
	}
	a, err := p.client(ctx, i, m)
	if err != nil {
		return nil, "", p.undo(ctx, i, err)
	}
	p.log.Info("image mapped", "image", p.config.within(i.name), "device", m.path, "client", a, "took", time.Since(begin).Round(time.Millisecond))
	return m, a, nil
}

// undo takes away a mapping that was not handed out, and returns err.
func (p *Pool) undo(ctx context.Context, i image, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*endTime)
	defer cancel()
	if undoing := p.mapper.detach(ctx, i); undoing != nil {
		return fmt.Errorf("%w; %w", err, undoing)
	}
	return err
}

// awaitNobody waits until no client has the image, or its lock. One that was killed
// counts for half a minute more, unless it is fenced.
func (p *Pool) awaitNobody(ctx context.Context, i image) error {
	for {
		others, err := p.watchers(ctx, i)
		if err == nil && len(others) == 0 {
			others, err = p.unlock(ctx, i)
		}
		if err != nil || len(others) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("image %s is in use by client %s: %w: %w", p.config.within(i.name), join(others), backends.ErrInUse, context.Cause(ctx))
		case <-time.After(watchPause):
		}
	}
}

// unlock takes the lock of an image away from a client that does not watch the image: it
// has died, or was cut off. Who writes next would do the same, and rbd-fuse has been seen
// to fail its first write by that. A client that watches it keeps the lock, and is
// returned.
func (p *Pool) unlock(ctx context.Context, i image) (live []ceph.Address, err error) {
	has, err := value(ctx, p, func(pool *rados.IOContext) (has lockers, err error) {
		err = p.reading(pool, i, func(img *rbd.Image) error {
			has, err = lockersOf(img)
			return err
		})
		return has, err
	})
	if err != nil {
		return nil, err
	}
	for _, a := range has.dead {
		p.log.Warn("a client that has ended has the lock of an image, which is taken away from it", "image", p.config.within(i.name), "client", a)
		if err := p.refuse(ctx, i, a, p.fencer.Blocklist); err != nil {
			return nil, err
		}
	}
	return has.live, nil
}

// client returns the address of a mapping's client, or an error if the cluster does
// not know it any more: it has ended, was fenced, or another has the image beside it.
func (p *Pool) client(ctx context.Context, i image, m *mapping) (ceph.Address, error) {
	if m.ended {
		return "", fmt.Errorf("the client of %s has ended", m.path)
	}
	all, err := p.watchers(ctx, i)
	if err != nil {
		return "", err
	}
	if m.client != "" {
		for _, a := range all {
			if a == m.client {
				return a, nil
			}
		}
		return "", fmt.Errorf("the cluster does not know client %s of %s any more, which may be fenced: %w", m.client, m.path, backends.ErrUnavailable)
	}
	switch len(all) {
	case 1:
		return ceph.ParseAddress(string(all[0]))
	case 0:
		return "", fmt.Errorf("the cluster does not know the client of %s any more, which may be fenced: %w", m.path, backends.ErrUnavailable)
	}
	return "", fmt.Errorf("image %s is in use by clients %s at once: %w", p.config.within(i.name), join(all), backends.ErrInUse)
}
