package nfs

import (
	"context"
	"fmt"
	"path"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/internal/host"
)

// Plan checks a request. A volume may be an export as it is, by the option share,
// where the pool's configuration allows that.
func (p *Pool) Plan(ctx context.Context, r backends.Request) (v backends.Volume, err error) {
	if _, share := r.Options[OptionShare]; share {
		v, err = p.planShare(ctx, r)
		return v, wrap("plan", r.ID, err)
	}
	if err := backends.CheckOptions(r.Options, OptionShare); err != nil {
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
	if isShare(v.Handle) {
		_, err := p.statShare(ctx, v.Handle)
		return wrap("create", v.Handle, err)
	}
	return wrap("", v.Handle, p.with(ctx, func(d *local.Pool) error { return d.Create(ctx, v) }))
}

// Remove deletes a volume that Create has made.
func (p *Pool) Remove(ctx context.Context, handle string) error {
	if isShare(handle) {
		return wrap("remove", handle, fmt.Errorf("it is an export as it is, whose data is never deleted: %w", backends.ErrInvalid))
	}
	if err := p.checkUnused(handle); err != nil {
		return wrap("remove", handle, err)
	}
	return wrap("", handle, p.with(ctx, func(d *local.Pool) error { return d.Remove(ctx, handle) }))
}

// checkUnused returns ErrInUse if the volume is mounted through a mount of its
// own, which package local can't know: that is another file system to it.
func (p *Pool) checkUnused(handle string) error {
	mounts, err := host.Mounts()
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if host.IsNFS(m) && p.showsVolume(m, handle) {
			return fmt.Errorf("mounted at %s: %w", m.Mountpoint, backends.ErrInUse)
		}
	}
	return nil
}

// Stat describes a volume.
func (p *Pool) Stat(ctx context.Context, handle string) (info backends.Info, err error) {
	if isShare(handle) {
		info, err = p.statShare(ctx, handle)
		return info, wrap("stat", handle, err)
	}
	err = p.with(ctx, func(d *local.Pool) (err error) {
		info, err = d.Stat(ctx, handle)
		return err
	})
	info.Location = path.Join(p.config.source(), handle)
	return info, wrap("", handle, err)
}

// Mount makes a volume appear at target: bound out of the shared mount, or, if it
// is to be alone, out of one that is made for it.
func (p *Pool) Mount(ctx context.Context, handle, target string, o backends.MountOptions) error {
	if isShare(handle) {
		return wrap("mount", handle, p.mountShare(ctx, handle, target, o))
	}
	if o.Alone {
		return wrap("mount", handle, p.mountOwn(ctx, handle, target, o))
	}
	return wrap("", handle, p.with(ctx, func(d *local.Pool) error { return d.Mount(ctx, handle, target, o) }))
}

// Unmount undoes Mount. Where the volume has a mount of its own it waits until all
// that was written is with the server.
func (p *Pool) Unmount(ctx context.Context, handle, target string) error {
	err := ctx.Err()
	if err == nil {
		err = host.Unmount(target)
	}
	if err == nil { // else the file system would outlive its volume
		err = host.ClearMountpoint(ctx, p.ownPoint(target))
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
