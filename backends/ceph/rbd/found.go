//go:build ceph && cgo

package rbd

import (
	"context"

	"github.com/dvol/dvold/internal/host"
)

// findMapped has what an earlier dvold has mapped seen to.
func (p *Pool) findMapped(context.Context) {
	all, err := p.mapper.all()
	for _, i := range all {
		if err := p.found(i); err != nil {
			p.log.Warn("an image that is mapped is not seen to", "image", p.config.within(i.name), "err", err)
		}
	}
	if err != nil {
		p.log.Warn("images that are mapped are not seen to", "err", err)
	}
}

// found has an image be seen to. One that is mapped read-only, and of which nothing is mounted, is
// left over: nobody comes back for it.
func (p *Pool) found(i image) error {
	done, free := p.turns.of(i).Try()
	if !free { // a call has it, which does the same
		return nil
	}
	defer done()
	m, err := p.mapper.find(i)
	if err != nil || m == nil {
		return err
	}
	table, err := host.ReadMountTable(nil)
	if err != nil {
		return err
	}
	mounts, err := table.Of(m.major, m.minor)
	if err != nil {
		return err
	}
	var targets []string
	for _, at := range mounts {
		if !host.IsReadOnly(at) && at.Mountpoint != p.point(i) {
			targets = append(targets, at.Mountpoint)
		}
	}
	switch {
	case !m.readOnly:
		p.seen.found(i, targets)
	case len(mounts) == 0:
		p.seen.over(i)
	}
	return nil
}

// found says that an image is mapped to be written to, and where it is mounted, unless that is known.
func (s *seen) found(i image, targets []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.writable[i]) > 0 || s.clients[i] != "" {
		return
	}
	s.strange[i] = true
	if len(targets) > 0 {
		s.writable[i] = targets
	}
}

// learn finds out by which client an image is mapped that an earlier dvold has mapped, as long as the cluster
// does not refuse that: the one that has the image.
func (p *Pool) learn(ctx context.Context, i image) {
	p.seen.mu.Lock()
	strange := p.seen.strange[i]
	p.seen.mu.Unlock()
	if !strange {
		return
	}
	m, err := p.mapper.find(i)
	if err == nil && m == nil {
		p.seen.disconnected(i)
	}
	if err != nil || m == nil {
		return
	}
	client := m.client
	if client == "" {
		if client, err = p.client(ctx, i, m); err != nil {
			return // it is asked again
		}
	}
	p.seen.connected(i, client)
}
