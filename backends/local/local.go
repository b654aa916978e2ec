// Package local keeps volumes as directories of one file system.
//
// Below the path of the pool lie
//
//	volumes/<ID>    a volume, for as long as it exists
//	trash/<ID>      a volume while Remove deletes it
//	trash/<ID>.new  a volume while Create makes it
//
// and directories to adopt anywhere else. A handle is the path of the volume
// relative to that of the pool, so that a volume was made by Create exactly if
// its handle begins with "volumes/".
//
// Nothing here follows a symbolic link below the path of the pool, whoever
// planted it, or enters a file system mounted there.
package local

import (
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
	config Config
}

var _ backends.Backend = (*Pool)(nil)

// Open returns the pool that c describes. It makes the directory if it is
// missing, unless a mount is required there: then Open leaves the storage
// alone, and later calls tell whether it is available.
func Open(ctx context.Context, c Config, log *slog.Logger) (*Pool, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c.Path = filepath.Clean(c.Path)
	p := &Pool{config: c}
	if c.RequireMount {
		return p, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open pool %s: %w", c.Path, err)
	}
	made, err := makeRoot(c.Path)
	if err != nil {
		return nil, fmt.Errorf("open pool: %w", classify(err))
	}
	if made {
		log.Info("made the directory of a pool", "path", c.Path)
	}
	return p, nil
}

func makeRoot(path string) (made bool, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	err = os.Mkdir(path, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, os.Chmod(path, 0o711)
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
	return backends.Info{Used: -1, Location: dir.Name()}, nil
}

// open opens the directory of the pool.
func (p *Pool) open(ctx context.Context) (*os.File, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	root, err := os.OpenFile(p.config.Path, unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, fmt.Errorf("pool: %w: %w", err, backends.ErrUnavailable)
	}
	if err != nil || !p.config.RequireMount {
		return root, err
	}
	mounted, err := host.IsMountRoot(root)
	if err == nil && !mounted {
		err = fmt.Errorf("%s is not mounted: %w", p.config.Path, backends.ErrUnavailable)
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return root, nil
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
