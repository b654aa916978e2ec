//go:build ceph && cgo

package cephfs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
)

// hasLibraries says that this program was built with the libraries of Ceph.
const hasLibraries = true

// FencingPool is a Pool whose cluster can be told to refuse the client of one volume
// on one host: by the address of that client, which no other has or had.
type FencingPool struct {
	*Pool
	cluster *ceph.Cluster
	fences  *atomic.Bool // the cluster has said that its user may
	late    *lateWatches
}

var (
	_ backends.Fencer     = FencingPool{}
	_ backends.Connecting = FencingPool{}
)

// Fencing returns the pool as one that fences, which takes a Fencer in its
// configuration.
func (p *Pool) Fencing(log *slog.Logger) (FencingPool, error) {
	cluster, err := ceph.Open(p.config.fencer(), log)
	late := new(lateWatches)
	late.ctx, late.end = context.WithCancel(context.Background())
	f := FencingPool{p, cluster, new(atomic.Bool), late}
	if err == nil {
		p.fencing.Store(&f)
	}
	return f, err
}

// Close ends what Fencing and Open began.
func (p FencingPool) Close() error {
	p.late.end()
	p.late.wait.Wait()
	return errors.Join(p.cluster.Close(), p.Pool.Close())
}

// Method is "blocklist".
func (p FencingPool) Method() string { return "blocklist" }

// Effect says what it does to be on the blocklist.
func (p FencingPool) Effect(f backends.Fence) string {
	return fmt.Sprintf("has the cluster refuse the client of this volume on host %q, and no other", f.Host)
}

// Identity is the domain alone: the address comes with Connect. It makes sure, once,
// that the cluster would let this host fence.
func (p FencingPool) Identity(ctx context.Context, handle string) (backends.Identity, error) {
	if !p.fences.Load() {
		if err := p.checkMayFence(ctx); err != nil {
			return backends.Identity{}, fmt.Errorf("the fencer of the pool, client.%s, must be able to fence: %w", p.config.Fencer, err)
		}
		p.fences.Store(true)
	}
	return backends.Identity{Domain: p.domain(handle)}, nil
}

// domain is the volume.
func (p FencingPool) domain(handle string) string {
	return fmt.Sprintf("volume/%s/cephfs.%s", p.name, ownKey(handle))
}

// Connect starts the client of the volume, and adds its address to the facts.
// Addresses of earlier ones stay: what was sent from there may be on its way.
func (p FencingPool) Connect(ctx context.Context, handle string, id backends.Identity) (backends.Identity, error) {
	connected, err := p.connectAs(ctx, handle, id)
	return connected, wrap("connect to", handle, err)
}

func (p FencingPool) connectAs(ctx context.Context, handle string, id backends.Identity) (backends.Identity, error) {
	fsid, err := p.fsid(ctx)
	if err != nil {
		return id, err
	}
	_, before := recorded(&id)
	address, err := p.connect(ctx, handle, before)
	if err != nil {
		return id, err
	}
	if _, err := ceph.ParseAddress(address); err != nil {
		return id, fmt.Errorf("its client: %w: %w", err, backends.ErrUnavailable)
	}
	return withAddress(id, fsid, address)
}

// Fence has the cluster refuse the host's clients of the volume, and returns nil once
// no OSD and no MDS takes anything from them.
func (p FencingPool) Fence(ctx context.Context, f backends.Fence) error {
	addresses, err := p.addressesOf(ctx, f)
	if err == nil && len(addresses) > 0 {
		watch := p.watchLate(f, addresses)
		if err = p.refuse(ctx, addresses); err == nil {
			watch.fenced.Store(true)
		}
	}
	if err != nil {
		return fmt.Errorf("blocklist host %q, %v: %w", f.Host, addresses, err)
	}
	return nil
}

// refuse puts addresses on the blocklist, and returns nil once no MDS knows them.
func (p FencingPool) refuse(ctx context.Context, addresses []ceph.Address) error {
	for _, a := range addresses {
		if err := p.cluster.Blocklist(ctx, a); err != nil {
			return err
		}
	}
	return p.awaitRefused(ctx, addresses)
}

// Unfence has the cluster take the addresses off its blocklist. No later stay of the
// host has one of them.
func (p FencingPool) Unfence(ctx context.Context, f backends.Fence) error {
	addresses, err := p.addressesOf(ctx, f)
	for _, a := range addresses {
		if err == nil {
			err = p.cluster.Unblocklist(ctx, a)
		}
	}
	if err != nil {
		return fmt.Errorf("take host %q, %v, off the blocklist: %w", f.Host, addresses, err)
	}
	return nil
}

// addressesOf returns what a fence is about, after it has made sure that it is about
// this cluster: there are none if the host was not connected yet.
func (p FencingPool) addressesOf(ctx context.Context, f backends.Fence) ([]ceph.Address, error) {
	facts, fenced := recorded(&f.Identity)
	if !fenced {
		return nil, nil
	}
	if f.Identity.Domain != p.domain(f.Handle) {
		return nil, fmt.Errorf("it left the identity of something else, %q", f.Identity.Domain)
	}
	fsid, err := p.fsid(ctx)
	if err != nil {
		return nil, err
	}
	if was := f.Identity.Facts[factCluster]; was != fsid {
		return nil, fmt.Errorf("it wrote to cluster %s, and this is %s", was, fsid)
	}
	var addresses []ceph.Address
	for _, text := range facts {
		a, err := ceph.ParseAddress(text)
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, a)
	}
	return addresses, nil
}
