//go:build ceph && cgo

package cephfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/ceph/go-ceph/cephfs/admin"
	"github.com/ceph/go-ceph/rados"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
)

// manager is the cluster's, as far as it makes, deletes and limits the sub-volumes of one
// group. It does one after the other, whoever asks for them.
type manager struct {
	cluster   *ceph.Cluster
	config    ceph.Config
	fs, group string
}

func openManager(c Config, log *slog.Logger) (*manager, error) {
	cluster, err := ceph.OpenForManager(c.Cluster, log)
	return &manager{cluster: cluster, config: c.Cluster, fs: c.FileSystem, group: c.SubvolumeGroup}, err
}

func (m *manager) close() error { return m.cluster.Close() }

// create makes a sub-volume. One that is there gets that size and mode.
func (m *manager) create(ctx context.Context, name string, size int64, mode fs.FileMode) error {
	o := &admin.SubVolumeOptions{Size: admin.ByteCount(size), Mode: int(mode.Perm())}
	if mode&fs.ModeSetgid != 0 {
		o.Mode |= unix.S_ISGID
	}
	if mode&fs.ModeSticky != 0 {
		o.Mode |= unix.S_ISVTX
	}
	return m.call(ctx, "create", func(a *admin.FSAdmin) error { return a.CreateSubVolume(m.fs, m.group, name, o) })
}

// resize changes what a sub-volume may hold; 0 means no limit.
func (m *manager) resize(ctx context.Context, name string, size int64) error {
	var to admin.QuotaSize = admin.Infinite
	if size != 0 {
		to = admin.ByteCount(size)
	}
	return m.call(ctx, "resize", func(a *admin.FSAdmin) error {
		_, err := a.ResizeSubVolume(m.fs, m.group, name, to, true)
		return err
	})
}

// remove moves a sub-volume to the manager's trash. It is ErrInUse if it has snapshots, and
// no error if there is no such sub-volume.
func (m *manager) remove(ctx context.Context, name string) error {
	return m.call(ctx, "rm", func(a *admin.FSAdmin) error {
		err := a.RemoveSubVolume(m.fs, m.group, name)
		if ceph.Errno(err) == unix.ENOENT {
			err = nil
		}
		return err
	})
}

// call has the manager do something to a sub-volume, and says what is wrong if it does not.
func (m *manager) call(ctx context.Context, doing string, f func(*admin.FSAdmin) error) error {
	limit := m.config.CallTimeout
	late := fmt.Errorf("the cluster's manager does not answer (call_timeout, %v): see ceph mgr stat, and have another take its place by ceph mgr fail", limit)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	err := m.cluster.Call(ctx, func(conn *rados.Conn) error {
		if err := checkManager(conn); err != nil {
			return err
		}
		return m.explain(doing, f(admin.NewFromConn(conn)))
	})
	if err != nil {
		return fmt.Errorf("ceph fs subvolume %s: %w", doing, err)
	}
	return nil
}

// checkManager returns ErrUnavailable if the cluster has no manager: then nobody would
// answer a command.
func checkManager(conn *rados.Conn) error {
	text, err := ceph.Monitor(conn, map[string]any{"prefix": "mgr stat", "format": "json"}, nil)
	if err != nil {
		return err
	}
	var now struct {
		Available bool `json:"available"`
	}
	if err := json.Unmarshal(text, &now); err != nil {
		return fmt.Errorf("read ceph mgr stat: %w", err)
	}
	if !now.Available {
		return fmt.Errorf("the cluster has no manager at work: see ceph mgr stat, and start a ceph-mgr: %w", backends.ErrUnavailable)
	}
	return nil
}

// explain says what an error of the manager means.
func (m *manager) explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	// What was found out is all that counts from here: its number means another thing to the cluster.
	said := func(hint string, kind error) error { return fmt.Errorf("%v: %s: %w", err, hint, kind) }
	switch number := ceph.Errno(err); {
	case errors.As(err, new(admin.NotImplementedError)), number == unix.EOPNOTSUPP:
		return said("the manager has no module volumes: see ceph mgr module ls", backends.ErrUnavailable)
	case number == unix.EACCES, number == unix.EPERM:
		return said(fmt.Sprintf("the caps of client.%s do not allow it in group %s: see docs/cephfs.md", m.config.User, m.group), backends.ErrUnavailable)
	case number == unix.ENOENT:
		return said(fmt.Sprintf("see ceph fs subvolumegroup ls %s", m.fs), backends.ErrUnavailable)
	case number == unix.ENOTEMPTY:
		return said("remove its snapshots first (ceph fs subvolume snapshot ls)", backends.ErrInUse)
	case number == unix.EAGAIN:
		return said("the manager still works on it", backends.ErrInUse)
	case number == unix.EINVAL && doing == "resize":
		return fmt.Errorf("size: %v: %w", err, backends.ErrInvalid)
	case number == unix.ENOSPC, number == unix.EDQUOT:
		return fmt.Errorf("%v: %w", err, backends.ErrNoSpace)
	case number == unix.ESHUTDOWN, number == unix.ENOTCONN:
		return err // which tells that the connection is lost
	}
	return fmt.Errorf("%v: %w", err, backends.ErrUnavailable)
}
