package cephfs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/fuseclient"
	"github.com/dvol/dvold/internal/host"
)

// ownKey is that of a volume's own client. It is short, as a socket's path must be.
func ownKey(handle string) string {
	sum := sha256.Sum256([]byte(handle))
	return fmt.Sprintf("%x", sum[:8])
}

// socket is where a volume's own client says how it is.
func (p *Pool) socket(handle string) string {
	return filepath.Join(p.dir, "own."+ownKey(handle)+".sock")
}

// checkHandle returns ErrInvalid for what is no handle, and could lead out of the pool. What else one is like
// sees to who keeps volumes.
func (p *Pool) checkHandle(handle string) error {
	if p.config.SubvolumeGroup != "" {
		return checkName(handle)
	}
	if !backends.IsBelow(handle) {
		return fmt.Errorf("%q is not the handle of a volume: %w", handle, backends.ErrInvalid)
	}
	return nil
}

// own is a volume with a client of its own.
func (p *Pool) own(handle string) fuseclient.Own {
	s := p.spec("own")
	s.socket, s.alone = p.socket(handle), true
	c := s.client()
	c.Bury = func(ctx context.Context, point string) error {
		return errors.Join(p.bury(ctx, point), removeSocket(s.socket))
	}
	return fuseclient.Own{Spec: c, Key: ownKey(handle), Path: handle, Within: p.config.SubvolumeGroup != ""}
}

// mountOwn mounts a volume through a client of its own: the one that connect has
// started, if the volume is fenced by its address, or one that it starts.
func (p *Pool) mountOwn(ctx context.Context, handle, target string, o backends.MountOptions) error {
	if err := p.checkHandle(handle); err != nil {
		return err
	}
	kernel, err := p.ownByKernel(handle)
	if err != nil {
		return err
	}
	if kernel {
		return p.kernelOwn(ctx, handle, target, o)
	}
	own := p.own(handle)
	bind := func(root string) error {
		d, err := p.at(root)
		if err != nil {
			return err
		}
		return d.Mount(ctx, handle, target, o)
	}
	known, fenced, err := p.recorded(handle, o.Identity)
	if err != nil {
		return err
	}
	if !fenced {
		return p.clients.MountOwn(ctx, own, target, o.ReadOnly, nil, bind)
	}
	now, err := askStatus(ctx, p.socket(handle))
	if err != nil {
		return fmt.Errorf("%w: %w", err, backends.ErrUnavailable)
	}
	if now.Address != known {
		return fmt.Errorf("its client, %s, is not the one that was recorded to fence this host by, %s: %w", now.Address, known, backends.ErrUnavailable)
	}
	return p.clients.PlaceOwn(ctx, own, target, o.ReadOnly, bind)
}

// ownByKernel tells whether a volume's own client is the kernel's, if there is one, or
// will be.
func (p *Pool) ownByKernel(handle string) (bool, error) {
	mounts, err := p.ownMounts(handle)
	if err != nil || len(mounts) > 0 {
		return true, err
	}
	running, err := p.clients.OwnProcesses(ownKey(handle))
	if err != nil || len(running) > 0 {
		return false, err
	}
	return p.usesKernel(true)
}

// connect returns the address of the volume's own client, which it starts if there is
// none that the cluster lets in. It writes nothing to the volume. Once none has the volume
// here but that one, which may be none, it has endEarlier end what the cluster may know still.
func (p *Pool) connect(ctx context.Context, handle string, endEarlier func(but string) error) (address string, err error) {
	kernel, err := p.ownByKernel(handle)
	if err != nil {
		return "", err
	}
	if kernel {
		return p.kernelConnect(ctx, handle, endEarlier)
	}
	own := p.own(handle)
	running, err := p.clients.OwnProcesses(own.Key)
	if err != nil {
		return "", err
	}
	if len(running) > 0 {
		if now, err := askStatus(ctx, p.socket(handle)); err == nil && !now.Blocklisted {
			return now.Address, endEarlier(now.Address)
		}
	}
	// A client that has ended, or was cut off, serves a mount to no avail, until that
	// is unmounted.
	if err := kind().CheckUnused(handle); err != nil {
		return "", err
	}
	if err := p.endOwn(ctx, handle); err != nil {
		return "", err
	}
	if err := endEarlier(""); err != nil {
		return "", err
	}
	c, err := p.clients.StartOwn(ctx, own)
	if err != nil {
		return "", err
	}
	now, err := p.ready(ctx, c, handle)
	if err != nil {
		return "", errors.Join(err, p.endOwn(context.WithoutCancel(ctx), handle))
	}
	p.log.Info("client of one volume started", "process", c.PID, "handle", handle, "address", now.Address)
	return now.Address, nil
}

// ready returns what a client that was started says of itself, if it has the volume.
func (p *Pool) ready(ctx context.Context, c *fuseclient.Client, handle string) (now status, err error) {
	root, err := os.OpenFile(c.Mountpoint, unix.O_DIRECTORY, 0)
	if err != nil {
		return now, err
	}
	defer root.Close()
	dir, err := host.OpenWithin(root, handle, unix.O_PATH|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", err, backends.ErrNotFound)
	}
	if err != nil {
		return now, err
	}
	dir.Close()
	return askStatus(ctx, p.socket(handle))
}

// endOwn ends the volume's own client if that serves nothing, and takes away what one
// has left that was killed.
func (p *Pool) endOwn(ctx context.Context, handle string) error {
	socket := p.socket(handle)
	if _, err := os.Lstat(socket); errors.Is(err, fs.ErrNotExist) {
		return nil // there was no such client
	}
	if err := p.clients.EndOwn(ctx, ownKey(handle)); err != nil {
		return err
	}
	return removeSocket(socket)
}

// removeSocket removes what a client that was killed has left.
func removeSocket(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Servers are those that the client of the volume at target is connected to, if it is a
// process. The kernel doesn't tell, but has the monitors.
func (p *Pool) Servers(_ context.Context, handle, target string) ([]netip.Addr, error) {
	m, err := host.MountedAt(target)
	if err != nil {
		return nil, err
	}
	if m == nil || m.FSType != kernelType {
		return p.clients.Servers(ownKey(handle))
	}
	var servers []netip.Addr
	source, _, _ := strings.Cut(m.Source, ":/")
	for at := range strings.SplitSeq(source, ",") {
		if a, err := netip.ParseAddr(strings.Trim(at, "[]")); err == nil {
			servers = append(servers, a)
		} else if a, err := netip.ParseAddrPort(at); err == nil {
			servers = append(servers, a.Addr())
		}
	}
	return servers, nil
}
