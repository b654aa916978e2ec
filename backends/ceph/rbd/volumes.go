//go:build ceph && cgo

package rbd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// optionFS is the one option of these volumes: ext4 or xfs.
const optionFS = "filesystem"

// align is what a size is a multiple of.
const align = 4096

// Plan checks a request. It asks the cluster only for an image to be adopted.
func (p *Pool) Plan(ctx context.Context, r backends.Request) (backends.Volume, error) {
	v, err := p.plan(ctx, r)
	return v, wrap("plan", fmt.Sprintf("%.80s", r.ID), err)
}

func (p *Pool) plan(ctx context.Context, r backends.Request) (v backends.Volume, err error) {
	if err := backends.CheckOptions(r.Options, optionFS); err != nil {
		return v, err
	}
	if r.Adopt != "" {
		return p.planAdopted(ctx, r)
	}
	handle, err := madeHandle(r.ID)
	if err != nil {
		return v, err
	}
	kind := p.config.FileSystem
	if asked, ok := r.Options[optionFS]; ok {
		kind = asked
	}
	if _, ok := fileSystems[kind]; !ok {
		return v, fmt.Errorf("%s: %q is not one of: ext4, xfs: %w", optionFS, kind, backends.ErrInvalid)
	}
	size := r.Size
	if size == 0 {
		size = int64(p.config.Size)
	}
	if size == 0 {
		return v, fmt.Errorf("size: an image needs one, and the pool has none for all: add -o size=10G: %w", backends.ErrInvalid)
	}
	if err := checkSize(size, kind); err != nil {
		return v, fmt.Errorf("%w: %w", err, backends.ErrInvalid)
	}
	options := maps.Clone(r.Options)
	if options == nil {
		options = make(map[string]string)
	}
	options[optionFS] = kind
	size = (size + align - 1) / align * align
	return backends.Volume{Handle: handle, Size: size, UID: r.UID, GID: r.GID, Mode: r.Mode, Options: options}, nil
}

func (p *Pool) planAdopted(ctx context.Context, r backends.Request) (v backends.Volume, err error) {
	switch {
	case r.Size != 0:
		return v, fmt.Errorf("size: an image that is adopted has one: see rbd resize: %w", backends.ErrInvalid)
	case r.UID != nil || r.GID != nil || r.Mode != nil:
		return v, fmt.Errorf("uid, gid, mode: an image that is adopted stays as it is: %w", backends.ErrInvalid)
	case len(r.Options) > 0:
		return v, fmt.Errorf("%s: an image that is adopted has one: %w", optionFS, backends.ErrInvalid)
	}
	handle, err := adoptedHandle(r.Adopt)
	if err != nil {
		return v, err
	}
	i, err := imageOf(handle)
	if err == nil {
		_, err = p.look(ctx, i)
	}
	return backends.Volume{Handle: handle, Adopted: true}, err
}

// Stat describes a volume. What is used is known where it is mounted.
func (p *Pool) Stat(ctx context.Context, handle string) (backends.Info, error) {
	info, err := p.stat(ctx, handle)
	return info, wrap("look at", handle, err)
}

func (p *Pool) stat(ctx context.Context, handle string) (info backends.Info, err error) {
	i, err := imageOf(handle)
	if err != nil {
		return info, err
	}
	if err := p.checkReady(ctx, i); err != nil {
		return info, err
	}
	f, err := p.look(ctx, i)
	if err != nil {
		return info, err
	}
	used, err := p.used(ctx, i)
	return backends.Info{Size: f.size, Used: used, Location: p.config.Cluster.Hosts() + ":" + p.config.within(i.name)}, err
}

// used is what a volume that is mounted here holds, or -1.
func (p *Pool) used(ctx context.Context, i image) (int64, error) {
	mounts, err := p.mounts(i)
	if err != nil || len(mounts) == 0 {
		return -1, err
	}
	at := mounts[0].Mountpoint
	return within(ctx, &p.hanging, "statfs "+at, func() (int64, error) {
		var st unix.Statfs_t
		if err := unix.Statfs(at, &st); err != nil { // unmounted meanwhile, or dead
			return -1, nil
		}
		return int64(st.Blocks-st.Bfree) * st.Bsize, nil
	}, nil)
}

// mounts are those of an image in this mount namespace.
func (p *Pool) mounts(i image) ([]*mountinfo.Info, error) {
	m, err := p.mapper.find(i)
	if err != nil || m == nil {
		return nil, err
	}
	table, err := host.ReadMountTable(nil)
	if err != nil {
		return nil, err
	}
	return table.Of(m.major, m.minor)
}

// Remove deletes an image that Create has made. It is ErrInUse while it is mapped, here
// or by another client.
func (p *Pool) Remove(ctx context.Context, handle string) error {
	return wrap("remove", handle, p.remove(ctx, handle))
}

func (p *Pool) remove(ctx context.Context, handle string) error {
	i, err := imageOf(handle)
	if err != nil {
		return err
	}
	if i.adopted {
		return fmt.Errorf("image %s was adopted, and is not dvold's to delete: use rbd rm: %w", p.config.within(i.name), backends.ErrInvalid)
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
	if err := p.checkFree(ctx, i, s); err != nil || s.Step == "" { // it was never begun, or is gone
		return err
	}
	others, err := p.watchers(ctx, i)
	if err == nil && len(others) > 0 {
		err = fmt.Errorf("client %s has image %s: %w", join(others), p.config.within(i.name), backends.ErrInUse)
	}
	if err != nil && !errors.Is(err, backends.ErrNotFound) { // an earlier call got that far
		return err
	}
	s.Step = removing
	if err := p.setState(ctx, i, s); err != nil {
		return err
	}
	if err := p.delete(ctx, i); err != nil {
		return err
	}
	return p.forget(ctx, i)
}

// checkFree returns ErrInUse while this host has the image. What nobody will take away
// any more it takes away.
func (p *Pool) checkFree(ctx context.Context, i image, s state) error {
	m, err := p.mapper.find(i)
	if err != nil {
		return err
	}
	if m != nil && s.Step == ready && !p.seen.isOver(i) {
		return fmt.Errorf("it is mapped on this host, as %s: %w", m.path, backends.ErrInUse)
	}
	return p.vacate(ctx, i)
}

// vacate is release of what must not be in use.
func (p *Pool) vacate(ctx context.Context, i image) error {
	if err := p.release(ctx, i); err != nil {
		return err
	}
	m, err := p.mapper.find(i)
	if err == nil && m != nil {
		err = fmt.Errorf("something on this host uses %s: %w", m.path, backends.ErrInUse)
	}
	return err
}

// Servers are those that the client of the volume is connected to.
func (p *Pool) Servers(ctx context.Context, handle, _ string) ([]netip.Addr, error) {
	i, err := imageOf(handle)
	if err != nil {
		return nil, err
	}
	all, err := p.mapper.peers(ctx, i)
	return all, wrap("look for the servers of", handle, err)
}
