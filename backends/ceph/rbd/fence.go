//go:build ceph && cgo

package rbd

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
)

// Facts of an identity. The cluster and the image are there for who finds them; what
// is fenced is the address.
const (
	factAddress = "address"
	factCluster = "cluster"
	factImage   = "image"
)

// domainPrefix begins the domains of these fences: each is one image.
const domainPrefix = "volume/rbd/"

// domainPattern is what such a domain is like: the cluster, the number of the pool, and the image.
var domainPattern = regexp.MustCompile("^" + domainPrefix + "[^/]+/[0-9]+/[^/]+$")

// place is where images are, as no other place is called.
type place struct {
	fsid string
	pool int64
}

func (p *Pool) place(ctx context.Context) (place, error) {
	return ceph.Value(ctx, p.cluster, func(conn *rados.Conn) (at place, err error) {
		if at.fsid, err = conn.GetFSID(); err != nil {
			return at, err
		}
		err = p.within(conn, func(pool *rados.IOContext) error {
			at.pool = pool.GetPoolID()
			return nil
		})
		return at, err
	})
}

// Identity is the image: whom the cluster knows it by, Connect adds.
func (p *Pool) Identity(ctx context.Context, handle string) (backends.Identity, error) {
	id, err := p.identity(ctx, handle)
	return id, wrap("identify the client of", handle, err)
}

func (p *Pool) identity(ctx context.Context, handle string) (backends.Identity, error) {
	i, err := imageOf(handle)
	if err != nil {
		return backends.Identity{}, err
	}
	at, err := p.place(ctx)
	if err != nil {
		return backends.Identity{}, err
	}
	f, err := p.look(ctx, i)
	if err != nil {
		return backends.Identity{}, err
	}
	return backends.Identity{Domain: domainPrefix + at.fsid + "/" + strconv.FormatInt(at.pool, 10) + "/" + f.id}, nil
}

// Connect maps the image, and adds the address of the client that it is mapped by, in
// place of an earlier one, which the cluster refuses from then on.
func (p *Pool) Connect(ctx context.Context, handle string, id backends.Identity) (backends.Identity, error) {
	id, err := p.connectAs(ctx, handle, id)
	return id, wrap("connect to", handle, err)
}

func (p *Pool) connectAs(ctx context.Context, handle string, id backends.Identity) (backends.Identity, error) {
	i, err := imageOf(handle)
	if err != nil {
		return id, err
	}
	done, err := p.turns.of(i).Take(ctx)
	if err != nil {
		return id, err
	}
	defer done()
	if err := p.checkReady(ctx, i); err != nil {
		return id, err
	}
	own, err := p.identity(ctx, handle)
	if err != nil {
		return id, err
	}
	if id.Domain != own.Domain {
		return id, fmt.Errorf("it is recorded as %s, and the image there is now is %s: %w", id.Domain, own.Domain, backends.ErrUnavailable)
	}
	p.wanted(i)
	_, client, err := p.connect(ctx, i, ceph.Address(id.Facts[factAddress]))
	if err != nil {
		return id, err
	}
	p.seen.connected(i, client)
	fsid, _, _ := strings.Cut(strings.TrimPrefix(own.Domain, domainPrefix), "/")
	own.Facts = map[string]string{factAddress: string(client), factCluster: fsid, factImage: p.config.within(i.name)}
	return own, nil
}

// checkIdentity returns an error unless a mapping's client is the recorded one.
func (p *Pool) checkIdentity(ctx context.Context, i image, m *mapping, id *backends.Identity) error {
	want := ceph.Address(id.Facts[factAddress])
	if want == "" {
		return fmt.Errorf("no client is recorded by which this host could be fenced: %w", backends.ErrUnavailable)
	}
	got, err := p.client(ctx, i, m)
	if err == nil && got != want {
		err = fmt.Errorf("it is mapped by client %s, and recorded is %s: %w", got, want, backends.ErrUnavailable)
	}
	return err
}

// Method is "blocklist".
func (p *Pool) Method() string { return "blocklist" }

// Effect says what a blocklist entry does.
func (p *Pool) Effect(f backends.Fence) string {
	a := f.Identity.Facts[factAddress]
	if a == "" {
		return fmt.Sprintf("does nothing: host %q was not connected to the image yet", f.Host)
	}
	return fmt.Sprintf("has the Ceph cluster refuse client %s of host %q, by which it has this image and nothing else", a, f.Host)
}

// Fence has the cluster refuse the client by which the host has the image, and takes
// the image's lock away from it. Whoever has the image by another client, such as its
// next owner, notices nothing, however late this is.
func (p *Pool) Fence(ctx context.Context, f backends.Fence) error {
	a, err := p.target(ctx, f)
	if err == nil && a != "" {
		err = p.fence(ctx, f.Handle, a)
	}
	return wrap("fence host "+strconv.Quote(f.Host)+" from", f.Handle, err)
}

// Unfence takes the client off the blocklist, where the pool has a user that may.
// Elsewhere the entry stays until it ends: the client is of nobody any more.
func (p *Pool) Unfence(ctx context.Context, f backends.Fence) error {
	a, err := p.target(ctx, f)
	if err == nil && a != "" {
		err = p.fencer.Unblocklist(ctx, a)
		if number := ceph.Errno(err); p.config.Fencer == "" && (number == unix.EACCES || number == unix.EPERM) {
			p.log.Info("a client that has ended stays on the cluster's blocklist: the pool's user may not take it off (fencer)", "client", a, "host", f.Host)
			err = nil
		}
	}
	return wrap("let in host "+strconv.Quote(f.Host)+" to", f.Handle, err)
}

// target is the client that a fence is about; none if the host had not connected.
func (p *Pool) target(ctx context.Context, f backends.Fence) (ceph.Address, error) {
	facts := f.Identity.Facts
	if !domainPattern.MatchString(f.Identity.Domain) {
		return "", fmt.Errorf("host %q left an identity that is not one of an image: %q", f.Host, f.Identity.Domain)
	}
	if len(facts) == 0 {
		return "", nil
	}
	a, err := ceph.ParseAddress(facts[factAddress])
	if err != nil {
		return "", fmt.Errorf("host %q left no client: %w", f.Host, err)
	}
	at, err := p.place(ctx)
	if err != nil {
		return "", err
	}
	// Another cluster would take the address, too, and cut nobody off.
	if !strings.HasPrefix(f.Identity.Domain, domainPrefix+at.fsid+"/") || facts[factCluster] != at.fsid {
		return "", fmt.Errorf("host %q had it in cluster %s, and the pool is in %s", f.Host, facts[factCluster], at.fsid)
	}
	return a, nil
}

func (p *Pool) fence(ctx context.Context, handle string, a ceph.Address) error {
	i, err := imageOf(handle)
	if err != nil {
		return err
	}
	err = p.refuse(ctx, i, a, p.fencer.Blocklist)
	if errors.Is(err, backends.ErrNotFound) { // it was removed meanwhile
		return nil
	}
	return err
}

// refuse has the cluster refuse a client, and takes the lock of an image away from it.
func (p *Pool) refuse(ctx context.Context, i image, a ceph.Address, blocklist func(context.Context, ceph.Address) error) error {
	if err := blocklist(ctx, a); err != nil {
		return err
	}
	if p.fencer != p.cluster {
		if err := p.cluster.AwaitMap(ctx); err != nil {
			return err
		}
	}
	// Else whoever writes next would do it, and put the client on the blocklist anew, for an hour.
	return p.with(ctx, func(pool *rados.IOContext) error {
		return p.writing(pool, i, func(img *rbd.Image) error { return breakLock(img, a) })
	})
}
