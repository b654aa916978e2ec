//go:build ceph && cgo

package rbd

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ceph/go-ceph/rados"

	"github.com/dvol/dvold/backends"
)

// state is what the pool says of a volume that was made here: each step is written
// down before it is taken.
type state struct {
	Step step   `json:"step"`
	FS   string `json:"fs"`
	// UUID is what the file system is made with, so that one that is half made is told
	// from any other.
	UUID string `json:"uuid"`
}

// step is how far a volume is.
type step string

const (
	making     step = "making"     // there may be an image; nothing has been written to it
	formatting step = "formatting" // it was blank, and a file system is being made on it
	ready      step = "ready"
	removing   step = "removing" // it may be there no more
)

// state returns what the pool says of a volume; no step if nothing.
func (p *Pool) state(ctx context.Context, i image) (state, error) {
	text, err := value(ctx, p, func(pool *rados.IOContext) ([]byte, error) { return states.get(pool, i.name) })
	if err != nil || text == nil {
		return state{}, err
	}
	var s state
	if err := json.Unmarshal(text, &s); err != nil {
		return state{}, fmt.Errorf("what object %s says of it can't be read: %w: %w", states, err, backends.ErrUnavailable)
	}
	return s, nil
}

func (p *Pool) setState(ctx context.Context, i image, s state) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return p.with(ctx, func(pool *rados.IOContext) error { return states.put(pool, i.name, text) })
}

// checkReady returns ErrNotFound unless the volume was made completely, and its image is there
// as far as is known. Of an adopted one that is all there is.
func (p *Pool) checkReady(ctx context.Context, i image) error {
	if i.adopted {
		return nil
	}
	s, err := p.state(ctx, i)
	if err == nil && s.Step != ready {
		err = fmt.Errorf("pool %s has no such volume: %w", p.config.within(""), backends.ErrNotFound)
	}
	return err
}

// forget takes away what the pool says of a volume.
func (p *Pool) forget(ctx context.Context, i image) error {
	return p.with(ctx, func(pool *rados.IOContext) error { return states.put(pool, i.name, nil) })
}
