package gluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
)

// quota limits volumes by the quota that a Gluster volume has for directories.
// The limit belongs to the directory, not to its path: it moves with it. What it
// is, clients see by statfs(2) alone, if at all (features.quota-deem-statfs);
// it is set by management.
type quota struct {
	manage management
	volume string // the Gluster volume
	subdir string // the directory of it that is the pool
	log    *slog.Logger
}

var _ local.Limiter = quota{}

// where is what the quota command calls a directory of the pool.
func (q quota) where(at string) string { return "/" + path.Join(q.subdir, at) }

// Plan asks whether there is a quota, and whether it can be told about the pool.
func (q quota) Plan(ctx context.Context, _ *os.File, id string) (uint32, error) {
	if err := q.there(ctx); err != nil {
		return 0, err
	}
	if where := q.where(id); !word.MatchString(where) {
		return 0, fmt.Errorf("size: %q is not fit for a command on a server; leave size out or choose another pool: %w", where, backends.ErrInvalid)
	}
	return 0, nil
}

// there returns ErrInvalid, with what would help, if there is no quota.
func (q quota) there(ctx context.Context) error {
	if !q.manage.there() {
		return fmt.Errorf("size: it takes the key management in the pool's configuration, a command that runs gluster(8) on a server (docs/gluster.md): %w", backends.ErrInvalid)
	}
	info, err := q.manage.info(ctx, q.volume)
	if err != nil {
		return unavailable(err)
	}
	if info.option("features.quota") == "on" {
		return nil
	}
	return fmt.Errorf(`size: Gluster volume %s has its quota disabled; run "gluster volume quota %s enable" on a server: %w`, q.volume, q.volume, backends.ErrInvalid)
}

// Limit sets the limit.
func (q quota) Limit(ctx context.Context, _ *os.File, at string, size int64) error {
	err := q.set(ctx, "limit-usage", q.where(at), strconv.FormatInt(size, 10))
	return q.explain(ctx, err)
}

// Resize changes the limit. What a volume without one holds, only servers know.
func (q quota) Resize(ctx context.Context, dir *os.File, at string, size int64) error {
	if err := q.there(ctx); err != nil {
		return err
	}
	limited, used, err := q.list(ctx, at)
	if err != nil {
		return err
	}
	if err := backends.CheckResize(size, used); err != nil {
		return err
	}
	switch {
	case size != 0:
		return q.Limit(ctx, dir, at, size)
	case limited:
		return q.explain(ctx, q.set(ctx, "remove", q.where(at)))
	}
	return nil
}

// list asks for what the servers know of a directory.
func (q quota) list(ctx context.Context, at string) (limited bool, used int64, err error) {
	var answer struct {
		Limits []struct {
			Limit string `xml:"hard_limit"` // "N/A": none
			Used  int64  `xml:"used_space"`
		} `xml:"volQuota>limit"`
	}
	err = q.manage.patiently(ctx, func() error {
		answer.Limits = nil
		err := q.manage.run(ctx, &answer, "volume", "quota", q.volume, "list", q.where(at))
		if err == nil && len(answer.Limits) != 1 {
			return errUntold
		}
		return err
	})
	if err != nil {
		return false, 0, fmt.Errorf("quota of %s: %w", q.where(at), q.explain(ctx, err))
	}
	_, none := strconv.ParseInt(answer.Limits[0].Limit, 10, 64)
	return none == nil, answer.Limits[0].Used, nil
}

// Release has the servers forget the limit. It goes with the directory in any
// case, but they would keep an entry of it for ever (quota.conf). That is no
// reason to keep the data, so a failure is only logged.
func (q quota) Release(ctx context.Context, root, dir *os.File, at string) error {
	if !q.manage.there() {
		return nil
	}
	size, _, err := q.Usage(root, dir, at)
	if err != nil || size == 0 {
		return err
	}
	if err := q.set(ctx, "remove", q.where(at)); err != nil {
		q.log.Warn("servers were left with the entry of a quota whose directory is deleted", "directory", q.where(at), "err", err)
	}
	return ctx.Err()
}

// Usage asks the file system. A directory with a limit is as large as that to
// it, any other as its next parent with one, or the whole.
func (q quota) Usage(root, dir *os.File, _ string) (size, used int64, err error) {
	all, err := statfs(root)
	if err != nil {
		return 0, -1, err
	}
	own, err := statfs(dir)
	if err != nil {
		return 0, -1, err
	}
	if own.Blocks == all.Blocks {
		return 0, -1, nil
	}
	return int64(own.Blocks) * own.Frsize, int64(own.Blocks-own.Bfree) * own.Frsize, nil
}

func statfs(f *os.File) (st unix.Statfs_t, err error) {
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return st, &os.PathError{Op: "statfs", Path: f.Name(), Err: err}
	}
	return st, nil
}

// errUntold means that the quota of a directory was asked for, and none told: it
// is read in a mount that ends with the first of those who ask at a time.
var errUntold = fmt.Errorf("the servers don't tell: %w", backends.ErrUnavailable)

// set runs a quota command that changes something.
func (q quota) set(ctx context.Context, args ...string) error {
	return q.manage.run(ctx, nil, append([]string{"volume", "quota", q.volume}, args...)...)
}

// explain says of an answer of glusterd what is the matter if its quota is
// disabled.
func (q quota) explain(ctx context.Context, err error) error {
	if !errors.As(err, new(refused)) {
		return err
	}
	if reason := q.there(ctx); errors.Is(reason, backends.ErrInvalid) {
		return reason
	}
	return unavailable(err)
}

// unavailable makes an answer of glusterd an ErrUnavailable: servers may be down
// that it takes, or be busy.
func unavailable(err error) error {
	if errors.As(err, new(refused)) {
		err = fmt.Errorf("%w: %w", err, backends.ErrUnavailable)
	}
	return err
}
