package gluster

import (
	"context"
	"fmt"
	"path"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
)

// Plan checks a request. A volume may be a whole Gluster volume, by the option
// gluster_volume, where the pool's configuration allows that.
func (p *Pool) Plan(ctx context.Context, r backends.Request) (v backends.Volume, err error) {
	if _, whole := r.Options[OptionVolume]; whole {
		v, err = p.planWhole(ctx, r)
		return v, wrap("plan", r.ID, err)
	}
	if err := backends.CheckOptions(r.Options, OptionVolume); err != nil {
		return v, wrap("plan", r.ID, err)
	}
	err = p.with(ctx, func(d *local.Pool) (err error) {
		v, err = d.Plan(ctx, r)
		return err
	})
	return v, wrap("", r.ID, err)
}

// Create makes a planned volume.
func (p *Pool) Create(ctx context.Context, v backends.Volume) error {
	if isWhole(v.Handle) {
		_, err := p.statWhole(ctx, v.Handle)
		return wrap("create", v.Handle, err)
	}
	return wrap("", v.Handle, p.with(ctx, func(d *local.Pool) error { return d.Create(ctx, v) }))
}

// Remove deletes a volume that Create has made.
func (p *Pool) Remove(ctx context.Context, handle string) error {
	if isWhole(handle) {
		return wrap("remove", handle, fmt.Errorf("it is a Gluster volume's, whose data is never deleted: %w", backends.ErrInvalid))
	}
	// Which package local can't know: that is another file system to it. No other
	// volume has that handle, for it is unique for all time.
	if err := kind().CheckUnused(handle); err != nil {
		return wrap("remove", handle, err)
	}
	return wrap("", handle, p.with(ctx, func(d *local.Pool) error { return d.Remove(ctx, handle) }))
}

// Stat describes a volume.
func (p *Pool) Stat(ctx context.Context, handle string) (info backends.Info, err error) {
	if isWhole(handle) {
		info, err = p.statWhole(ctx, handle)
		return info, wrap("stat", handle, err)
	}
	err = p.with(ctx, func(d *local.Pool) (err error) {
		info, err = d.Stat(ctx, handle)
		return err
	})
	info.Location = p.locate(path.Join(p.config.Volume, p.config.Subdir, handle))
	return info, wrap("", handle, err)
}

// Mount makes a volume appear at target: bound out of the shared client's file
// system, or, if it is to be alone, out of one that is mounted for it.
func (p *Pool) Mount(ctx context.Context, handle, target string, o backends.MountOptions) error {
	switch {
	case isWhole(handle):
		return wrap("mount", handle, p.mountWhole(ctx, handle, target, o))
	case !o.Alone:
		return wrap("", handle, p.with(ctx, func(d *local.Pool) error { return d.Mount(ctx, handle, target, o) }))
	}
	return wrap("mount", handle, p.mountOwn(ctx, p.specOf(p.config.Volume, p.config.Subdir), handle, target, o, func(root string) error {
		d, err := p.at(root)
		if err != nil {
			return err
		}
		return d.Mount(ctx, handle, target, o)
	}))
}

// Unmount undoes Mount. It asks nothing of the storage.
func (p *Pool) Unmount(ctx context.Context, handle, target string) error {
	err := ctx.Err()
	if err == nil {
		err = p.clients.UnmountOwn(ctx, ownKey(target), target)
	}
	return wrap("unmount", handle, err)
}

// Describe keeps text with the volumes.
func (p *Pool) Describe(ctx context.Context, id string, text []byte) error {
	return wrap("", id, p.with(ctx, func(d *local.Pool) error { return d.Describe(ctx, id, text) }))
}

// Descriptions reads all.
func (p *Pool) Descriptions(ctx context.Context) (texts map[string][]byte, err error) {
	err = p.with(ctx, func(d *local.Pool) (err error) {
		texts, err = d.Descriptions(ctx)
		return err
	})
	return texts, classify(err)
}

// Stamp keeps text with the volumes.
func (p *Pool) Stamp(ctx context.Context, id string, text []byte) error {
	return wrap("", id, p.with(ctx, func(d *local.Pool) error { return d.Stamp(ctx, id, text) }))
}

// Stamped reads what Stamp was given.
func (p *Pool) Stamped(ctx context.Context, id string) (text []byte, err error) {
	err = p.with(ctx, func(d *local.Pool) (err error) {
		text, err = d.Stamped(ctx, id)
		return err
	})
	return text, wrap("", id, err)
}
