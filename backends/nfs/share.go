package nfs

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// OptionShare is the option of a volume that is an export as it is:
// SERVER:/PATH.
const OptionShare = "share"

// sharePrefix begins the handle of such a volume. What is adopted can't lie
// there: "nfs:" is no directory's name that a pool would accept.
const sharePrefix = "nfs:"

// isShare tells whether a handle is that of an export as it is.
func isShare(handle string) bool { return strings.HasPrefix(handle, sharePrefix) }

// shareOf returns what is mounted of the export that a handle stands for, in the
// way in which the pool is. It is ErrInvalid unless the configuration has it used,
// which is asked in each call, for that may change.
func (p *Pool) shareOf(handle string) (Config, error) {
	share := strings.TrimPrefix(handle, sharePrefix)
	server, export, ok := strings.Cut(share, ":/")
	c := p.config
	c.Server, c.Export, c.Subdir = strings.Trim(server, "[]"), "/"+export, ""
	if !ok || c.Validate() != nil || c.source() != share {
		return c, fmt.Errorf(`%s: %q is not SERVER:/PATH, with a path free of ".", ".." and needless slashes: %w`, OptionShare, share, backends.ErrInvalid)
	}
	return c, p.allows(c, share)
}

// allows returns ErrInvalid unless the pool's configuration has an export used as it is, and
// it could not become two volumes.
func (p *Pool) allows(c Config, share string) error {
	switch {
	case !p.config.lets(share):
		return fmt.Errorf("%s: the pool's configuration does not allow %s: add it to shares there: %w", OptionShare, share, backends.ErrInvalid)
	case c.meets(p.config):
		return fmt.Errorf("%s: %s and the pool's own directory, %s, with other volumes in it, lie one within the other: take a directory by adopt: %w", OptionShare, share, p.config.source(), backends.ErrInvalid)
	}
	for _, name := range slices.Sorted(maps.Keys(p.others)) {
		switch other := p.others[name]; {
		case c.meets(other):
			return fmt.Errorf("%s: %s and the directory of pool %q, %s, with other volumes in it, lie one within the other: take a directory by adopt there: %w", OptionShare, share, name, other.source(), backends.ErrInvalid)
		case other.lets(share):
			return fmt.Errorf("%s: pool %q allows %s, too, and it could become two volumes, with two owners: take it out of shares of one of them: %w", OptionShare, name, share, backends.ErrInvalid)
		}
	}
	return nil
}

// Beside tells of the other NFS pools of this host, by name. It is called before all else.
func (p *Pool) Beside(others map[string]Config) { p.others = others }

// planShare is Plan for an export as it is.
func (p *Pool) planShare(ctx context.Context, r backends.Request) (backends.Volume, error) {
	none := backends.Volume{}
	if err := backends.CheckOptions(r.Options, OptionShare); err != nil {
		return none, err
	}
	if r.Adopt != "" || r.Size != 0 || r.UID != nil || r.GID != nil || r.Mode != nil {
		return none, fmt.Errorf("%s: it is taken as it is: leave out adopt, size, uid, gid and mode: %w", OptionShare, backends.ErrInvalid)
	}
	handle := sharePrefix + r.Options[OptionShare]
	_, err := p.statShare(ctx, handle)
	return backends.Volume{Handle: handle, Adopted: true, Options: r.Options}, err
}

// lookPrefix begins the name of the mountpoint at which an export is looked at.
const lookPrefix = "look."

// statShare mounts the export for a moment.
func (p *Pool) statShare(ctx context.Context, handle string) (info backends.Info, err error) {
	c, err := p.shareOf(handle)
	if err != nil {
		return info, err
	}
	ctx, cancel := p.limit(ctx)
	defer cancel()
	point, err := os.MkdirTemp(p.dir, lookPrefix)
	if err != nil {
		return info, err
	}
	var st unix.Statfs_t
	if err = p.mountExport(ctx, c, point, false, true); err == nil {
		err = os.NewSyscallError("statfs", unix.Statfs(point, &st))
	}
	if err := errors.Join(err, host.ClearMountpoint(ctx, point)); err != nil {
		return info, err
	}
	return backends.Info{Used: int64(st.Blocks-st.Bfree) * st.Frsize, Location: c.source()}, nil
}

// clearLooks takes away what an earlier dvold has left that was looking at
// exports. It may wait for their servers.
func (p *Pool) clearLooks(ctx context.Context, points []string) {
	for _, point := range points {
		if err := host.ClearMountpoint(ctx, point); err != nil {
			p.log.Warn("a mountpoint of an earlier dvold stays", "mountpoint", point, "err", err)
		}
	}
}

// mountShare mounts the export at target itself. One that is to be alone shares
// nothing with other mounts of it.
func (p *Pool) mountShare(ctx context.Context, handle, target string, o backends.MountOptions) error {
	c, err := p.shareOf(handle)
	if err != nil {
		return err
	}
	mounted, err := host.MountedAt(target)
	if err != nil {
		return err
	}
	if mounted != nil {
		return checkShare(mounted, c, o)
	}
	ctx, cancel := p.limit(ctx)
	defer cancel()
	return p.mountExport(ctx, c, target, o.Alone, o.ReadOnly)
}

// checkShare returns an error unless a mount is of the export, in the way that is
// asked for.
func checkShare(m *mountinfo.Info, c Config, o backends.MountOptions) error {
	switch {
	case !host.IsNFS(m) || m.Source != c.source() || o.Alone != host.HasOption(m.VFSOptions, ownOption):
		return fmt.Errorf("something else is mounted at %s: %w", m.Mountpoint, backends.ErrInUse)
	case isReadOnly(m) != o.ReadOnly:
		return fmt.Errorf("it is mounted at %s already, with read-only %t: %w", m.Mountpoint, !o.ReadOnly, backends.ErrInUse)
	}
	return nil
}
