//go:build ceph && cgo

package rbd

import (
	"context"
	"fmt"
	"maps"

	"github.com/ceph/go-ceph/rados"

	"github.com/dvol/dvold/backends"
)

// shelf is an object of the pool with a text for each of some volumes, in its omap: a
// key is changed at once and durably, whoever changes others meanwhile. The name of
// such an object begins with none that an image's has.
type shelf string

const (
	descriptions shelf = "dvol.descriptions"
	stamps       shelf = "dvol.stamps"
	states       shelf = "dvol.volumes"
)

// batch is how many texts are read at once: their size is limited, and so is that of
// an answer.
const batch = 64

// put puts text on the shelf in place of what was there. Empty text takes that away.
func (s shelf) put(pool *rados.IOContext, key string, text []byte) error {
	if len(text) > 0 {
		return pool.SetOmap(string(s), map[string][]byte{key: text})
	}
	err := pool.RmOmapKeys(string(s), []string{key})
	if isNotFound(err) { // nothing was ever put there
		return nil
	}
	return err
}

// get returns the text on the shelf, or nil if there is none.
func (s shelf) get(pool *rados.IOContext, key string) ([]byte, error) {
	// There is no call for one key: what begins like it is short.
	found, err := pool.GetOmapValues(string(s), "", key, batch)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return found[key], nil
}

// all returns all texts on the shelf.
func (s shelf) all(pool *rados.IOContext) (map[string][]byte, error) {
	all, after := make(map[string][]byte), ""
	for {
		found, err := pool.GetOmapValues(string(s), after, "", batch)
		if isNotFound(err) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return all, nil
		}
		maps.Copy(all, found)
		for key := range found {
			after = max(after, key)
		}
	}
}

// keep is Describe and Stamp.
func (p *Pool) keep(ctx context.Context, s shelf, id string, text []byte) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("that is not the ID of a volume: %w", backends.ErrInvalid)
	}
	if len(text) > backends.MaxDescription {
		return fmt.Errorf("%d bytes are more than %d: %w", len(text), backends.MaxDescription, backends.ErrInvalid)
	}
	text = append([]byte(nil), text...) // the call may be left behind
	return p.with(ctx, func(pool *rados.IOContext) error { return s.put(pool, id, text) })
}

// Describe keeps text with the pool's volumes.
func (p *Pool) Describe(ctx context.Context, id string, text []byte) error {
	return wrap("describe", fmt.Sprintf("%.80q", id), p.keep(ctx, descriptions, id, text))
}

// Descriptions reads all.
func (p *Pool) Descriptions(ctx context.Context) (map[string][]byte, error) {
	all, err := value(ctx, p, descriptions.all)
	if err != nil {
		return nil, fmt.Errorf("read descriptions: %w", classify(err))
	}
	return all, nil
}

// Stamp keeps text with the pool's volumes.
func (p *Pool) Stamp(ctx context.Context, id string, text []byte) error {
	return wrap("stamp", fmt.Sprintf("%.80q", id), p.keep(ctx, stamps, id, text))
}

// Stamped reads what Stamp was given.
func (p *Pool) Stamped(ctx context.Context, id string) ([]byte, error) {
	if !idPattern.MatchString(id) {
		return nil, fmt.Errorf("that is not the ID of a volume: %w", backends.ErrInvalid)
	}
	text, err := value(ctx, p, func(pool *rados.IOContext) ([]byte, error) { return stamps.get(pool, id) })
	return text, wrap("read the stamp of", id, err)
}
