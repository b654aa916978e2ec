//go:build ceph && cgo

package rbd

import (
	"context"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
)

// seen is what this process knows of images that are mapped or mounted here, to see to them:
// it may forget.
type seen struct {
	mu       sync.Mutex // guards the fields below
	writable map[image][]string
	clients  map[image]ceph.Address // by which they may be fenced
	strange  map[image]bool         // mapped by an earlier dvold, by a client that is not known yet
	left     map[image]bool
}

func newSeen() seen {
	return seen{
		writable: make(map[image][]string), clients: make(map[image]ceph.Address),
		strange: make(map[image]bool), left: make(map[image]bool),
	}
}

// connected says by which client an image is mapped to be written to.
func (s *seen) connected(i image, client ceph.Address) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[i] = client
	delete(s.strange, i)
}

// disconnected says that an image is mapped no more.
func (s *seen) disconnected(i image) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, i)
	delete(s.strange, i)
	delete(s.writable, i) // some may be known from before, such as a part of it in a container
}

// mounted says that a volume was mounted.
func (s *seen) mounted(i image, target string, o backends.MountOptions) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.left, i)
	if o.ReadOnly {
		return
	}
	if o.Identity != nil {
		delete(s.strange, i)
		s.clients[i] = ceph.Address(o.Identity.Facts[factAddress])
	}
	if slices.Contains(s.writable[i], target) {
		return
	}
	s.writable[i] = append(s.writable[i], target)
}

// isMounted tells whether a volume was mounted there, and was not said to be unmounted since.
func (s *seen) isMounted(i image, target string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.writable[i], target)
}

// unmounted says that it was unmounted. It is mapped still, and may be fenced.
func (s *seen) unmounted(i image, target string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rest := slices.DeleteFunc(s.writable[i], func(t string) bool { return t == target })
	if len(rest) == 0 {
		delete(s.writable, i)
		return
	}
	s.writable[i] = rest
}

// over says that a mapping is to be taken away as soon as nobody uses it.
func (s *seen) over(i image) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left[i] = true
}

func (s *seen) isOver(i image) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left[i]
}

// wanted says that a mapping stays.
func (p *Pool) wanted(i image) {
	p.seen.mu.Lock()
	defer p.seen.mu.Unlock()
	delete(p.seen.left, i)
}

// all are the images to be seen to.
func (s *seen) all() []image {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[image]bool)
	for i := range s.left {
		all[i] = true
	}
	for i := range s.writable {
		all[i] = true
	}
	for i := range s.clients {
		all[i] = true
	}
	for i := range s.strange {
		all[i] = true
	}
	return slices.Collect(maps.Keys(all))
}

// of is where an image is mounted to be written to, and by which client it is mapped for
// that; empty if that is not known.
func (s *seen) of(i image) (target string, client ceph.Address) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.writable[i]) > 0 {
		target = s.writable[i][0]
	}
	return target, s.clients[i]
}

// ended says that a client, which was fenced, is no more, unless it is mounted still.
func (s *seen) ended(i image, client ceph.Address) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.writable[i]) == 0 && s.clients[i] == client {
		delete(s.clients, i)
	}
}

// tend sees to an image, and tells the log if it can't.
func (p *Pool) tend(ctx context.Context, i image) {
	if err := p.tendOne(ctx, i); err != nil && ctx.Err() == nil {
		p.log.Warn("an image was not seen to", "image", p.config.within(i.name), "err", err)
	}
}

// tendOne ends the client of an image that was fenced, takes away a mapping that is left
// over, and has a file system take up an image that was made larger, on whatever host.
func (p *Pool) tendOne(ctx context.Context, i image) error {
	if fenced, err := p.abandonFenced(ctx, i); err != nil || fenced {
		return err
	}
	done, free := p.turns.of(i).Try()
	if !free {
		return nil
	}
	defer done()
	if p.seen.isOver(i) {
		return p.takeAway(ctx, i)
	}
	p.learn(ctx, i)
	target, _ := p.seen.of(i)
	if target == "" || p.hanging.Left(growing(i)) { // since an earlier look
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	return p.growMounted(ctx, i, target)
}

// takeAway takes a mapping away unless it is in use.
func (p *Pool) takeAway(ctx context.Context, i image) error {
	m, err := p.mapper.find(i)
	if err == nil && m != nil {
		var busy bool
		if busy, err = m.busy(); busy {
			return err
		}
	}
	if err == nil {
		err = p.mapper.detach(ctx, i)
	}
	if err == nil {
		p.seen.disconnected(i)
		p.wanted(i)
	}
	return err
}

// abandonFenced ends the client of an image if the cluster refuses it. It does not wait
// for its turn with the image: who has that may be waiting for this client.
func (p *Pool) abandonFenced(ctx context.Context, i image) (bool, error) {
	_, client := p.seen.of(i)
	fenced, err := p.isFenced(ctx, i, client)
	if err != nil || !fenced {
		return false, err
	}
	abandon, err := p.mapper.abandoner(i)
	if err != nil {
		return false, err
	}
	// What was found is this client's: who maps the image anew has it forgotten before that.
	if _, still := p.seen.of(i); still != client {
		return false, nil
	}
	p.log.Error("this host was fenced from an image: its containers must be stopped", "image", p.config.within(i.name), "client", client)
	if err := abandon(); err != nil {
		return true, err
	}
	p.seen.ended(i, client)
	return true, nil
}

// isFenced tells whether the cluster refuses a client. It asks for that only if the
// image is not watched by it.
func (p *Pool) isFenced(ctx context.Context, i image, client ceph.Address) (bool, error) {
	if client == "" {
		return false, nil
	}
	all, err := p.watchers(ctx, i)
	if err != nil || slices.Contains(all, client) {
		return false, err
	}
	return p.cluster.Blocklisted(ctx, client)
}

func growing(i image) string { return "grow the file system of " + i.name }

// growMounted has the file system that is mounted at target take up its image. What hangs
// it leaves behind when ctx ends, and is not begun anew before that has ended.
func (p *Pool) growMounted(ctx context.Context, i image, target string) error {
	m, err := p.mapper.find(i)
	if err != nil || m == nil || m.readOnly || m.ended {
		return err
	}
	return doWithin(ctx, &p.hanging, growing(i), func() error {
		if err := p.mapper.refresh(i, m); err != nil {
			return err
		}
		dir, err := os.Open(target)
		if err != nil {
			return err
		}
		defer dir.Close()
		at, err := os.Stat(target)
		if err != nil || !onDevice(at, m.block) { // unmounted meanwhile
			return err
		}
		return grow(m.block, dir)
	})
}
