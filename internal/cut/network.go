package cut

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/dvol/dvold/internal/hang"
	"github.com/dvol/dvold/internal/host"
)

// networkPatience is how long a change of the packet filter may take.
const networkPatience = 2 * time.Second

// filter is a packet filter of the kernel.
type filter struct {
	name    string
	atomic  bool // a block that failed, and does not hang, has changed nothing
	block   func(ctx context.Context, volume string, servers []netip.Prefix) error
	unblock func(ctx context.Context, volume string) error
	remedy  func(volume string) string // commands that do what unblock could not
}

// filters returns those that may be used, the preferred first.
func filters() []filter {
	return []filter{
		{"nftables", true, func(_ context.Context, volume string, servers []netip.Prefix) error { return nftBlock(volume, servers) },
			func(_ context.Context, volume string) error { return nftUnblock(volume) }, nftRemedy},
		{"iptables", false, iptablesBlock, iptablesUnblock, iptablesRemedy},
	}
}

// block stops all traffic between this network namespace and the servers of the
// storage, on account of this volume. It may be repeated, and there may be more
// servers by then. Where no filter can be used the cut goes on without; what it
// then rests on is that no socket has anything left to send.
func (r *run) block(ctx context.Context) error {
	r.addServers(ctx)
	if len(r.v.Servers) == r.blocked {
		return nil
	}
	var failures []error
	for _, f := range filters() {
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), networkPatience) // even if there is no time left
		err := r.filtering(wait, func(ctx context.Context) error { return f.block(ctx, r.v.ID, r.v.Servers) })
		cancel()
		r.filters[f.name] = r.filters[f.name] || err == nil || errors.Is(err, hang.ErrHangs)
		if err == nil {
			r.blocked = len(r.v.Servers)
			r.note(func(report *Report) { report.Blocked = f.name })
			r.log.Info("network to the storage was blocked", "volume", r.v.ID, "servers", r.v.Servers, "by", f.name)
			return nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", f.name, err))
	}
	return fmt.Errorf("the network to the storage is not blocked: %w", errors.Join(failures...))
}

// addServers adds to the servers of the storage those that a process is connected
// to which serves a FUSE file system that is the volume's alone, or lies behind it: there may be more
// of them by now than when it was mounted. Before Linux 6.16 it is not known
// who that is.
func (r *run) addServers(ctx context.Context) {
	for _, t := range r.targets {
		connection, ok, err := r.served(t)
		if t.sole && isFUSE(t.kind) && t.major == 0 {
			connection, ok = t.minor, true
		}
		if err != nil || !ok || t.over {
			continue
		}
		inode, _ := r.c.connections.inode(connection) // without it all of the number count as one
		known := func(m map[int]uint64) bool { was, ok := m[connection]; return ok && was == inode }
		if known(r.located) || known(r.aborted) {
			continue
		}
		if _, err := r.serversOf(ctx, connection, inode); err != nil {
			r.log.Warn("it is not known where a file system has its storage", "volume", r.v.ID, "err", err)
		}
	}
}

// serversOf returns who serves a connection, and adds to the servers of the
// storage those that they are connected to.
func (r *run) serversOf(ctx context.Context, connection int, inode uint64) ([]server, error) {
	found, err := servers(ctx, connection)
	if err != nil {
		return nil, err
	}
	for _, s := range found {
		if s.sure {
			err = errors.Join(err, r.addServersOf(s.Process))
		}
	}
	if err != nil {
		r.log.Warn("it is not known where a file system has its storage", "volume", r.v.ID, "err", err)
		return found, nil // and ask again in the next round
	}
	r.located[connection] = inode
	return found, nil
}

func (r *run) addServersOf(p host.Process) error {
	peers, err := p.Peers()
	for _, a := range peers {
		if server := netip.PrefixFrom(a, a.BitLen()); !slices.Contains(r.v.Servers, server) {
			r.v.Servers = append(slices.Clone(r.v.Servers), server)
		}
	}
	return err
}

// unblock undoes block by whatever filter, also that of an earlier cut which was not verified,
// and of which this process may know nothing.
func (r *run) unblock(ctx context.Context) {
	if len(r.v.Servers) == 0 && !r.v.Sole { // or an earlier cut has found some
		return
	}
	id, used, servers := r.v.ID, maps.Clone(r.filters), r.v.Servers
	// That takes the time that it takes: a cut that is verified does not wait for long.
	wait, cancel := quickly(ctx)
	defer cancel()
	err := r.filtering(wait, func(ctx context.Context) error {
		for _, f := range filters() {
			err := f.unblock(ctx, id)
			if err != nil && (used[f.name] || !f.atomic) { // else the kernel may lack it
				r.log.Error("network to the storage stays blocked", "volume", id, "servers", servers, "by", f.name, "err", err, "remedy", f.remedy(id))
			}
		}
		return nil
	})
	switch {
	case errors.Is(err, hang.ErrStillHangs):
		r.log.Error("network to the storage stays blocked", "volume", r.v.ID, "servers", servers, "err", err)
	case err != nil:
		r.log.Warn("it takes a while until the network to the storage is not blocked any more", "volume", r.v.ID, "servers", servers)
	}
}

// filtering calls fn, which gets some time, however little of it is waited for.
func (r *run) filtering(ctx context.Context, fn func(context.Context) error) error {
	return r.c.calls.Run(ctx, "change the packet filter for volume "+r.v.ID, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), networkPatience)
		defer cancel()
		return fn(ctx)
	})
}
