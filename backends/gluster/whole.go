package gluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// OptionVolume is the option of a volume that is a whole Gluster volume, or a
// directory of one: NAME or NAME/DIRECTORY.
const OptionVolume = "gluster_volume"

// wholePrefix begins the handle of such a volume. What is adopted can't lie
// there: "gluster:" is no directory's name that a pool would accept.
const wholePrefix = "gluster:"

// isWhole tells whether a handle is that of a whole Gluster volume.
func isWhole(handle string) bool { return strings.HasPrefix(handle, wholePrefix) }

// wholeOf returns what the handle stands for; the path is "." for all of it.
func wholeOf(handle string) (volume, dir string, err error) {
	name, ok := strings.CutPrefix(handle, wholePrefix)
	volume, dir, below := strings.Cut(name, "/")
	if !ok || !volumePattern.MatchString(volume) || below && !backends.IsBelow(dir) {
		return "", "", fmt.Errorf("%q is not the handle of a volume: %w", handle, backends.ErrInvalid)
	}
	if !below {
		dir = "."
	}
	return volume, dir, nil
}

// planWhole is Plan for a whole Gluster volume.
func (p *Pool) planWhole(ctx context.Context, r backends.Request) (backends.Volume, error) {
	none := backends.Volume{}
	if err := backends.CheckOptions(r.Options, OptionVolume); err != nil {
		return none, err
	}
	if r.Adopt != "" || r.Size != 0 || r.UID != nil || r.GID != nil || r.Mode != nil {
		return none, fmt.Errorf("%s: it is taken as it is: leave out adopt, size, uid, gid and mode: %w", OptionVolume, backends.ErrInvalid)
	}
	handle := wholePrefix + r.Options[OptionVolume]
	volume, _, err := wholeOf(handle)
	if err != nil {
		return none, fmt.Errorf(`%s: %q is not NAME or NAME/DIRECTORY, free of ".", "..", needless slashes and control characters: %w`, OptionVolume, r.Options[OptionVolume], backends.ErrInvalid)
	}
	if err := p.allows(volume); err != nil {
		return none, err
	}
	_, err = p.statWhole(ctx, handle)
	return backends.Volume{Handle: handle, Adopted: true, Options: r.Options}, err
}

// allows returns ErrInvalid unless the pool's configuration has the Gluster volume
// used as a whole. It is asked in each call, as a configuration may change.
func (p *Pool) allows(volume string) error {
	if volume == p.config.Volume {
		return fmt.Errorf("%s: %s is the pool's own, with other volumes in it: take a directory of it by adopt: %w", OptionVolume, volume, backends.ErrInvalid)
	}
	if !p.config.lets(volume) {
		return fmt.Errorf("%s: the pool's configuration does not allow %s: add it to gluster_volumes there: %w", OptionVolume, volume, backends.ErrInvalid)
	}
	for _, name := range slices.Sorted(maps.Keys(p.others)) {
		switch other := p.others[name]; {
		case other.Volume == volume:
			return fmt.Errorf("%s: %s is that of pool %q, with other volumes in it: take a directory of it by adopt there: %w", OptionVolume, volume, name, backends.ErrInvalid)
		case other.lets(volume):
			return fmt.Errorf("%s: pool %q allows %s, too, and it could become two volumes, with two owners: take it out of gluster_volumes of one of them: %w", OptionVolume, name, volume, backends.ErrInvalid)
		}
	}
	return nil
}

// Beside tells of the other pools of this host, by name, which may be on the same servers.
// It is called before all else.
func (p *Pool) Beside(others map[string]Config) {
	p.others = maps.Clone(others)
	maps.DeleteFunc(p.others, func(_ string, c Config) bool {
		return !slices.ContainsFunc(c.Servers, func(server string) bool { return slices.Contains(p.config.Servers, server) })
	})
}

// inWhole calls f with the path of the root of the Gluster volume that a handle stands for,
// and the path below that of its directory, "." for all of it.
func (p *Pool) inWhole(ctx context.Context, handle string, f func(root, dir string) error) error {
	volume, dir, err := wholeOf(handle)
	if err != nil {
		return err
	}
	if err := p.allows(volume); err != nil {
		return err
	}
	root, leave, err := p.sharedOf(volume).Enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return f(root, dir)
}

func (p *Pool) statWhole(ctx context.Context, handle string) (info backends.Info, err error) {
	err = p.inWhole(ctx, handle, func(root, dir string) error {
		r, err := os.OpenFile(root, unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer r.Close()
		d, err := openBelow(r, dir)
		if err != nil {
			return err
		}
		defer d.Close()
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(d.Fd()), &st); err != nil {
			return &os.PathError{Op: "statfs", Path: d.Name(), Err: err}
		}
		info.Used = -1
		if dir == "." {
			info.Used = int64(st.Blocks-st.Bfree) * st.Frsize
		}
		return nil
	})
	info.Location = p.locate(strings.TrimPrefix(handle, wholePrefix))
	return info, err
}

func (p *Pool) mountWhole(ctx context.Context, handle, target string, o backends.MountOptions) error {
	if !o.Alone {
		return p.inWhole(ctx, handle, func(root, dir string) error { return bindAt(root, dir, target, o.ReadOnly) })
	}
	volume, dir, err := wholeOf(handle)
	if err != nil {
		return err
	}
	if err := p.allows(volume); err != nil {
		return err
	}
	return p.mountOwn(ctx, p.specOf(volume, ""), dir, target, o, func(root string) error { return bindAt(root, dir, target, o.ReadOnly) })
}

// bindAt makes a directory below root appear at target: path is "." for root.
func bindAt(root, path, target string, readOnly bool) error {
	r, err := os.OpenFile(root, unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer r.Close()
	dir, err := openBelow(r, path)
	if err != nil {
		return err
	}
	defer dir.Close()
	mounted, err := host.IsMountpoint(target)
	if err != nil {
		return err
	}
	if !mounted {
		return host.BindMount(dir, target, readOnly)
	}
	want, err := dir.Stat()
	if err != nil {
		return err
	}
	got, err := os.Lstat(target)
	if err != nil {
		return err
	}
	m, err := host.MountedAt(target)
	if err != nil {
		return err
	}
	if !os.SameFile(want, got) || m == nil || host.IsReadOnly(m) != readOnly {
		return fmt.Errorf("something else is mounted at %s: %w", target, backends.ErrInUse)
	}
	return nil
}

// openBelow opens a directory of a Gluster volume, following no symbolic link.
func openBelow(root *os.File, path string) (*os.File, error) {
	dir, err := host.OpenWithin(root, path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w: %w", err, backends.ErrNotFound)
	case errors.Is(err, unix.ELOOP):
		err = fmt.Errorf("%w: it is reached through a symbolic link: %w", err, backends.ErrInvalid)
	}
	return dir, err
}
