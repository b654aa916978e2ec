package gluster

import (
	"context"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/fuseclient"
)

// ownOptions are those of a client that serves one exclusive volume. What a
// process has written to a file it closes is with the bricks when close(2)
// returns, so that a client whose files are all closed has nothing left to send. And what
// it has synced while a brick was away is marked on the others by then: a fence comes to one brick
// first, and what a client, for a second, only meant to mark, it can't any more.
// The next owner would read, and heal from, a brick that lacks it.
var ownOptions = [...]string{flushOnClose, "--xlator-option=*replicate*.post-op-delay-secs=0", "--xlator-option=*replicate*.eager-lock=off"}

const flushOnClose = "--xlator-option=*write-behind.flush-behind=off"

// ownKey is that of the client of the volume at target.
func ownKey(target string) string { return filepath.Base(target) }

// mountOwn mounts a volume through a client of its own.
//
// The volume is the directory path of the client's file system, which bind makes
// appear at target. If the volume is to be fenced by the address of the client,
// that is bound to it, and the bricks must see it.
func (p *Pool) mountOwn(ctx context.Context, s spec, path, target string, o backends.MountOptions, bind func(root string) error) error {
	source, fenced, err := recordedSource(o.Identity, s.volume)
	if err != nil {
		return err
	}
	options := ownOptions[:]
	var check func(context.Context, *fuseclient.Client) error
	if fenced {
		options = append(options[:len(options):len(options)], bindOption(source.String()))
		check = func(ctx context.Context, c *fuseclient.Client) error { return p.checkSeen(ctx, c, s.volume, source) }
	}
	s.options = slices.Concat(s.options, options)
	own := fuseclient.Own{Spec: s.client(), Key: ownKey(target), Path: path, Options: options}
	return p.clients.MountOwn(ctx, own, target, o.ReadOnly, check, bind)
}

// Servers are those that the client of the volume at target is connected to.
func (p *Pool) Servers(_ context.Context, _, target string) ([]netip.Addr, error) {
	return p.clients.Servers(ownKey(target))
}
