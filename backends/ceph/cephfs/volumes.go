package cephfs

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/dvol/dvold/backends"
)

// Plan checks a request. The only options are those which all backends have.
func (p *Pool) Plan(ctx context.Context, r backends.Request) (v backends.Volume, err error) {
	if err := backends.CheckOptions(r.Options); err != nil {
		return v, wrap("plan", r.ID, err)
	}
	err = p.with(ctx, func(d keeper) (err error) {
		v, err = d.Plan(ctx, r)
		return err
	})
	return v, wrap("", r.ID, err)
}

// Create makes a planned volume.
func (p *Pool) Create(ctx context.Context, v backends.Volume) error {
	return wrap("", v.Handle, p.with(ctx, func(d keeper) error { return d.Create(ctx, v) }))
}

// Remove deletes a volume that Create has made.
func (p *Pool) Remove(ctx context.Context, handle string) error {
	// Which package local can't know: that is another file system to it. No other
	// volume has that handle, for it is unique for all time.
	if err := errors.Join(kind().CheckUnused(handle), p.checkKernelUnused(handle)); err != nil {
		return wrap("remove", handle, err)
	}
	running, err := p.clients.OwnProcesses(ownKey(handle))
	if err == nil && len(running) > 0 {
		err = fmt.Errorf("it has a client of its own here, process %d: %w", running[0].PID, backends.ErrInUse)
	}
	if err != nil {
		return wrap("remove", handle, err)
	}
	return wrap("", handle, p.with(ctx, func(d keeper) error { return d.Remove(ctx, handle) }))
}

// Resize changes what a volume may hold.
func (p *Pool) Resize(ctx context.Context, handle string, size int64) error {
	return wrap("", handle, p.with(ctx, func(d keeper) error { return d.Resize(ctx, handle, size) }))
}

// Stat describes a volume.
func (p *Pool) Stat(ctx context.Context, handle string) (info backends.Info, err error) {
	err = p.with(ctx, func(d keeper) (err error) {
		info, err = d.Stat(ctx, handle)
		return err
	})
	info.Location = path.Join(p.config.Location(), handle)
	return info, wrap("", handle, err)
}

// Mount makes a volume appear at target: bound out of the shared client's file
// system, or, if it is to be alone, out of one that is mounted for it.
func (p *Pool) Mount(ctx context.Context, handle, target string, o backends.MountOptions) error {
	if o.Alone {
		return wrap("mount", handle, p.mountOwn(ctx, handle, target, o))
	}
	return wrap("", handle, p.with(ctx, func(d keeper) error { return d.Mount(ctx, handle, target, o) }))
}

// Unmount undoes Mount, and Connect. It asks nothing of the storage.
func (p *Pool) Unmount(ctx context.Context, handle, target string) error {
	err := ctx.Err()
	if err == nil {
		err = p.clients.UnmountOwn(ctx, ownKey(handle), target)
	}
	if err == nil {
		err = p.endKernelOwn(ctx, handle)
	}
	if err == nil {
		err = p.endOwn(ctx, handle)
	}
	return wrap("unmount", handle, err)
}

// Describe keeps text with the volumes.
func (p *Pool) Describe(ctx context.Context, id string, text []byte) error {
	return wrap("", id, p.with(ctx, func(d keeper) error { return d.Describe(ctx, id, text) }))
}

// Descriptions reads all.
func (p *Pool) Descriptions(ctx context.Context) (texts map[string][]byte, err error) {
	err = p.with(ctx, func(d keeper) (err error) {
		texts, err = d.Descriptions(ctx)
		return err
	})
	return texts, classify(err)
}

// Stamp keeps text with the volumes.
func (p *Pool) Stamp(ctx context.Context, id string, text []byte) error {
	return wrap("", id, p.with(ctx, func(d keeper) error { return d.Stamp(ctx, id, text) }))
}

// Stamped reads what Stamp was given.
func (p *Pool) Stamped(ctx context.Context, id string) (text []byte, err error) {
	err = p.with(ctx, func(d keeper) (err error) {
		text, err = d.Stamped(ctx, id)
		return err
	})
	return text, wrap("", id, err)
}
