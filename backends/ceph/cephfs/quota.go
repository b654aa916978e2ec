package cephfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
)

// quota limits volumes by the quotas that a CephFS has for directories. The limit
// belongs to the directory, not to its path: it moves with it. Clients enforce it,
// each by what it has heard of the others, and so a little late.
type quota struct {
	user string // whose caps are to allow it
}

var _ local.Limiter = quota{}

// Attributes of a directory: its limit in bytes, 0 meaning none, and what lies in
// it, also further down.
const (
	limitAttr = "ceph.quota.max_bytes"
	usedAttr  = "ceph.dir.rbytes"
)

// Plan has nothing to ask: whether the user may set limits only the setting of one
// tells.
func (quota) Plan(context.Context, *os.File, string) (uint32, error) { return 0, nil }

// Limit sets the limit.
func (q quota) Limit(_ context.Context, dir *os.File, _ string, size int64) error {
	err := unix.Fsetxattr(int(dir.Fd()), limitAttr, []byte(strconv.FormatInt(size, 10)), 0)
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("size: the caps of client.%s do not allow quotas: it takes the flag p, as in ceph fs authorize FILESYSTEM client.%s / rwp; or leave size out: %w", q.user, q.user, backends.ErrInvalid)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("size: the CephFS, or this host's client of it, has no quotas: leave size out: %w", backends.ErrInvalid)
	case err != nil:
		return &os.PathError{Op: "setxattr " + limitAttr, Path: dir.Name(), Err: err}
	}
	return nil
}

// Resize changes the limit.
func (q quota) Resize(ctx context.Context, dir *os.File, at string, size int64) error {
	used, err := attribute(dir, usedAttr)
	if err != nil {
		return err
	}
	if err := backends.CheckResize(size, used); err != nil {
		return err
	}
	return q.Limit(ctx, dir, at, size)
}

// Release has nothing to do: the limit goes with the directory.
func (quota) Release(context.Context, *os.File, *os.File, string) error { return nil }

// Usage asks the file system.
func (quota) Usage(_, dir *os.File, _ string) (size, used int64, err error) {
	if size, err = attribute(dir, limitAttr); err != nil {
		return 0, -1, err
	}
	used, err = attribute(dir, usedAttr)
	return size, used, err
}

// attribute reads one that is a number; it is 0 if there is none.
func attribute(dir *os.File, name string) (int64, error) {
	text := make([]byte, 32)
	n, err := unix.Fgetxattr(int(dir.Fd()), name, text)
	if errors.Is(err, unix.ENODATA) {
		return 0, nil
	}
	var value int64
	if err == nil {
		value, err = strconv.ParseInt(string(text[:n]), 10, 64)
	}
	if err != nil {
		return 0, &os.PathError{Op: "getxattr " + name, Path: dir.Name(), Err: err}
	}
	return value, nil
}
