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

// Connect starts the client of the volume, and adds its address to the facts, in place of
// an earlier one: of this host, or of an owner that died. The cluster refuses that from then
// on, so that nobody waits for what it had in use.
func (p FencingPool) Connect(ctx context.Context, handle string, id backends.Identity) (backends.Identity, error) {
	connected, err := p.connectAs(ctx, handle, id)
	return connected, wrap("connect to", handle, err)
}

func (p FencingPool) connectAs(ctx context.Context, handle string, id backends.Identity) (backends.Identity, error) {
	if err := p.checkHandle(handle); err != nil {
		return id, err
	}
	if id.Domain != p.domain(handle) {
		return id, fmt.Errorf("it is recorded as %q, which is another volume: %w", id.Domain, backends.ErrUnavailable)
	}
	fsid, err := p.fsid(ctx)
	if err != nil {
		return id, err
	}
	earlier := id.Facts[factAddress]
	known := earlier != ""
	if was := id.Facts[factCluster]; known && was != fsid {
		p.log.Warn("an earlier client of a volume was another cluster's, where it is left alone", "handle", handle, "cluster", was, "client", earlier)
		known = false
	}
	address, err := p.connect(ctx, handle, func(now string) error {
		if !known || earlier == now {
			return nil
		}
		return p.refuse(ctx, ceph.Address(earlier), p.cluster.BlocklistEnded)
	})
	if err != nil {
		return id, err
	}
	if _, err := ceph.ParseAddress(address); err != nil {
		return id, fmt.Errorf("its client: %w: %w", err, backends.ErrUnavailable)
	}
	id.Facts = map[string]string{factAddress: address, factCluster: fsid}
	return id, nil
}

// Fence has the cluster refuse the host's client of the volume, and returns nil once
// no OSD and no MDS takes anything from it.
func (p FencingPool) Fence(ctx context.Context, f backends.Fence) error {
	address, fenced, err := p.addressOf(ctx, f)
	if err == nil && fenced {
		watch := p.watchLate(f, address)
		if err = p.refuse(ctx, address, p.cluster.Blocklist); err == nil {
			watch.fenced.Store(true)
		}
	}
	if err != nil {
		return fmt.Errorf("blocklist host %q, %v: %w", f.Host, address, err)
	}
	return nil
}

// refuse has a client put on the blocklist, and returns nil once no MDS knows it.
func (p FencingPool) refuse(ctx context.Context, a ceph.Address, blocklist func(context.Context, ceph.Address) error) error {
	if err := blocklist(ctx, a); err != nil {
		return err
	}
	return p.awaitRefused(ctx, a)
}

// Unfence has the cluster take the address off its blocklist. No later stay of the
// host has that.
func (p FencingPool) Unfence(ctx context.Context, f backends.Fence) error {
	address, fenced, err := p.addressOf(ctx, f)
	if err == nil && fenced {
		err = p.cluster.Unblocklist(ctx, address)
	}
	if err != nil {
		return fmt.Errorf("take host %q, %v, off the blocklist: %w", f.Host, address, err)
	}
	return nil
}

// addressOf returns what a fence is about, after it has made sure that it is about
// this cluster: there is none if the host was not connected yet.
func (p FencingPool) addressOf(ctx context.Context, f backends.Fence) (a ceph.Address, fenced bool, err error) {
	if err := p.checkHandle(f.Handle); err != nil {
		return "", false, err
	}
	if f.Identity.Domain != p.domain(f.Handle) {
		return "", false, fmt.Errorf("it left the identity of something else, %q", f.Identity.Domain)
	}
	if len(f.Identity.Facts) == 0 {
		return "", false, nil
	}
	fsid, err := p.fsid(ctx)
	if err != nil {
		return "", false, err
	}
	if was := f.Identity.Facts[factCluster]; was != fsid {
		return "", false, fmt.Errorf("it wrote to cluster %s, and this is %s", was, fsid)
	}
	a, err = ceph.ParseAddress(f.Identity.Facts[factAddress])
	return a, true, err
}
