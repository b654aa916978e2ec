// Package local keeps volumes as directories of one file system.
//
// Below the path of the pool lie
//
//	volumes/<name>           a volume, for as long as it exists
//	volumes/<name>.new       the same while Create makes it
//	volumes/<name>.gone      the same while Remove deletes it
//	descriptions/<ID>.json   what Describe was given
//	work/description-<word>  the same while Describe writes it
//	stamps/<ID>.json         what Stamp was given
//	work/stamp-<word>        the same while Stamp writes it
//
// and directories to adopt anywhere else. A handle is the path of the volume
// relative to that of the pool, so that a volume was made by Create exactly if
// its handle begins with "volumes/". The name is the ID and, of a volume with
// a size where project quotas limit it, "@" and the number of the project that
// the file system counts it by: docs/quotas.md.
//
// A volume is made and deleted beside its place, for it is renamed then: GlusterFS with a
// quota counts a directory that gets another parent, and a brick that has not counted it
// before refuses, by itself (EINVAL; quota_rename in quota.c). The volume would lack a replica, or
// not come to be.
//
// Nothing here follows a symbolic link below the path of the pool, whoever
// planted it, or enters a file system mounted there.
package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// Pool is a directory that volumes are kept in. The directory is opened anew
// in each call, for the file system may have been mounted again meanwhile.
type Pool struct {
	config  Config
	limiter Limiter
	log     *slog.Logger
}

var (
	_ backends.Backend = (*Pool)(nil)
	_ backends.Stamper = (*Pool)(nil)
	_ backends.Resizer = (*Pool)(nil)
)

// Open returns the pool that c describes, which limits volumes by project quotas.
// It leaves the storage alone, which may hang: later calls tell whether it is
// available. Plan makes the directory if it is missing, unless a mount is required
// there.
func Open(c Config, log *slog.Logger) (*Pool, error) { return OpenLimited(c, projects{}, log) }

// OpenLimited is Open for a pool that limits volumes in another way.
func OpenLimited(c Config, l Limiter, log *slog.Logger) (*Pool, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Path = filepath.Clean(c.Path)
	return &Pool{config: c, limiter: l, log: log}, nil
}

// Stat describes a volume.
func (p *Pool) Stat(ctx context.Context, handle string) (backends.Info, error) {
	info, err := p.stat(ctx, handle)
	if err != nil {
		return backends.Info{}, fmt.Errorf("stat volume %s: %w", handle, classify(err))
	}
	return info, nil
}

func (p *Pool) stat(ctx context.Context, handle string) (backends.Info, error) {
	root, err := p.open(ctx)
	if err != nil {
		return backends.Info{}, err
	}
	defer root.Close()
	dir, err := openVolume(root, handle)
	if err != nil {
		return backends.Info{}, err
	}
	defer dir.Close()
	size, used, err := p.limiter.Usage(root, dir, handle)
	if err != nil {
		return backends.Info{}, err
	}
	return backends.Info{Size: size, Used: used, Location: dir.Name()}, nil
}

// open opens the directory of the pool.
func (p *Pool) open(ctx context.Context) (*os.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	open := openAny
	if p.config.RequireMount {
		open = OpenMounted
	}
	root, err := open(p.config.Path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, fmt.Errorf("pool: %w: %w", err, backends.ErrUnavailable)
	}
	return root, err
}

// openAny opens a directory.
func openAny(path string) (*os.File, error) { return os.OpenFile(path, unix.O_DIRECTORY, 0) }

// OpenMounted opens a directory that something is mounted at. It is ErrUnavailable if
// nothing is, such as when a client of the file system has ended.
func OpenMounted(path string) (*os.File, error) {
	dir, err := openAny(path)
	if err != nil {
		return nil, err
	}
	mounted, err := host.IsMountRoot(dir)
	if err == nil && !mounted {
		err = fmt.Errorf("%s is not mounted: %w", path, backends.ErrUnavailable)
	}
	if err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

// openOrMake is open for a plan.
func (p *Pool) openOrMake(ctx context.Context) (*os.File, error) {
	root, err := p.open(ctx)
	if !errors.Is(err, fs.ErrNotExist) || p.config.RequireMount {
		return root, err
	}
	if err := makePath(p.config.Path); err != nil {
		return nil, err
	}
	p.log.Info("directory of the pool made", "path", p.config.Path)
	return p.open(ctx)
}

// makePath makes a directory, and those that lead there, durably: what is made in it is.
func makePath(path string) error {
	err := os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makePath(filepath.Dir(path)); err != nil {
			return err
		}
		err = os.Mkdir(path, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(path))
	if err == nil {
		err = cmp.Or(parent.Sync(), parent.Close())
	}
	if err != nil { // the next try is not to take it for durable
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// openVolume opens the directory of the volume.
func openVolume(root *os.File, handle string) (*os.File, error) {
	if err := checkHandle(handle); err != nil {
		return nil, err
	}
	dir, err := openDir(root, handle)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", err, backends.ErrNotFound)
	}
	return dir, err
}

// openDir opens a directory of the pool.
func openDir(root *os.File, path string) (*os.File, error) {
	dir, err := host.OpenWithin(root, path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, fmt.Errorf("%w: it is reached through a symbolic link", err)
	case errors.Is(err, unix.EXDEV):
		return nil, fmt.Errorf("%w: it lies on another mount than %s", err, root.Name())
	}
	return dir, err
}
