//go:build ceph && cgo

package rbd

import (
	"context"
	"os"
	"slices"
	"sync"
	"time"
)

// seen is what this process knows of images that it has mounted, to see to them: it
// may forget.
type seen struct {
	mu       sync.Mutex // guards the fields below
	writable map[image][]string
	left     map[image]bool
}

// mounted says that a volume was mounted.
func (s *seen) mounted(i image, target string, readOnly bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.left, i)
	if readOnly || slices.Contains(s.writable[i], target) {
		return
	}
	if s.writable == nil {
		s.writable = make(map[image][]string)
	}
	s.writable[i] = append(s.writable[i], target)
}

// unmounted says that it was unmounted.
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
	if s.left == nil {
		s.left = make(map[image]bool)
	}
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
func (s *seen) all() (all []image) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.left {
		all = append(all, i)
	}
	for i := range s.writable {
		if !s.left[i] {
			all = append(all, i)
		}
	}
	return all
}

// targetOf is where an image is mounted to be written to, or empty.
func (s *seen) targetOf(i image) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.writable[i]) == 0 {
		return ""
	}
	return s.writable[i][0]
}

// tend sees to images from time to time, each by itself: one may hang.
func (p *Pool) tend(ctx context.Context) {
	tick := time.NewTicker(tendInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, i := range p.seen.all() {
			done, free := p.turns.try(i)
			if !free {
				continue
			}
			p.tending.Go(func() {
				defer done()
				if err := p.tendOne(ctx, i); err != nil && ctx.Err() == nil {
					p.log.Warn("an image was not seen to", "image", p.config.within(i.name), "err", err)
				}
			})
		}
	}
}

// tendOne takes away a mapping that is left over, and has a file system take up an
// image that was made larger, on whatever host.
func (p *Pool) tendOne(ctx context.Context, i image) error {
	if p.seen.isOver(i) {
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
			p.wanted(i)
		}
		return err
	}
	target := p.seen.targetOf(i)
	if target == "" {
		return nil
	}
	return p.growMounted(ctx, i, target)
}

// growMounted has the file system that is mounted at target take up its image.
func (p *Pool) growMounted(ctx context.Context, i image, target string) error {
	m, err := p.mapper.find(i)
	if err != nil || m == nil || m.readOnly || m.ended {
		return err
	}
	_, err = within(ctx, func() (struct{}, error) {
		if err := p.mapper.refresh(i, m); err != nil {
			return struct{}{}, err
		}
		dir, err := os.Open(target)
		if err != nil {
			return struct{}{}, err
		}
		defer dir.Close()
		at, err := os.Stat(target)
		if err != nil || !onDevice(at, m.block) { // unmounted meanwhile
			return struct{}{}, err
		}
		return struct{}{}, grow(m.block, dir)
	})
	return err
}
