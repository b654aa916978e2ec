package volumes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// Volume describes a volume as this host sees it.
type Volume struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"`
	Pool       string            `json:"pool"`
	Type       string            `json:"type,omitempty"` // of the pool's backend; none if this host lacks the pool
	Handle     string            `json:"handle"`
	Access     Access            `json:"access"`
	Size       int64             `json:"size,omitempty"` // bytes; none means no limit
	Adopted    bool              `json:"adopted"`
	Retain     bool              `json:"retain"`
	Options    map[string]string `json:"options,omitempty"`
	CreatedAt  time.Time         `json:"created_at"`
	CreatedBy  string            `json:"created_by"`
	Mountpoint string            `json:"mountpoint"` // where it is mounted on this host when it is
	Mounted    bool              `json:"mounted"`
	Uses       []Use             `json:"uses,omitempty"`
}

// Use is a use of a mounted volume on this host.
type Use struct {
	MountID string       `json:"mount_id"`
	Count   int          `json:"count"`
	Engine  host.Process `json:"engine"`
	Since   time.Time    `json:"since"`
}

// Details is a Volume with what only its storage and the kernel know.
type Details struct {
	Volume
	Location string      `json:"location,omitempty"`
	Used     int64       `json:"used"`              // bytes; -1 means unknown
	Problem  string      `json:"problem,omitempty"` // why the storage could not be asked
	Users    []host.User `json:"users,omitempty"`   // processes that have it, one for each container
}

// Get describes a volume, or returns ErrNotFound. It asks no storage.
func (m *Manager) Get(ctx context.Context, name string) (Volume, error) {
	r, err := m.existing(ctx, name)
	if err != nil {
		return Volume{}, err
	}
	return m.view(r), nil
}

// List describes all volumes, ordered by name. It asks no storage. A record
// that can't be read is left out and logged.
func (m *Manager) List(ctx context.Context) ([]Volume, error) {
	stored, err := m.coord.List(ctx, "volumes/")
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", unavailable(err))
	}
	all := make([]Volume, 0, len(stored))
	for _, s := range stored {
		r, err := decode(s)
		if err != nil {
			m.log.Error("volume was left out of a list", "err", err)
			continue
		}
		if r.State != stateCreating {
			all = append(all, m.view(r))
		}
	}
	slices.SortFunc(all, func(a, b Volume) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Inspect is Get, with what the storage and the kernel say. A storage that
// does not answer before ctx ends is a Problem, not an error.
func (m *Manager) Inspect(ctx context.Context, name string) (Details, error) {
	v, err := m.Get(ctx, name)
	if err != nil {
		return Details{}, err
	}
	d := Details{Volume: v, Used: -1}
	info, err := call(ctx, m, name, func(ctx context.Context) (backends.Info, func(context.Context), error) {
		info, err := m.stat(ctx, v.Pool, v.Handle)
		return info, nil, err
	})
	if err != nil {
		d.Problem = err.Error()
	} else {
		d.Location, d.Used = info.Location, info.Used
		if v.Size > 0 && info.Size == 0 {
			d.Problem = "its size is not enforced: the pool's file system has its quotas switched off"
		}
	}
	if e, ok := m.entry(name); ok {
		if d.Users, err = m.users(ctx, e); err != nil {
			d.Problem = err.Error()
		}
	}
	return d, nil
}

// stat asks the storage about a volume.
func (m *Manager) stat(ctx context.Context, poolName, handle string) (info backends.Info, err error) {
	p, err := m.pool(poolName)
	if err != nil {
		return info, err
	}
	err = p.do(ctx, func(b backends.Backend) error {
		info, err = b.Stat(ctx, handle)
		return err
	})
	return info, err
}

// view is a record as users see it, with this host's mount of it.
func (m *Manager) view(r record) Volume {
	v := Volume{
		Name:       r.Name,
		ID:         r.ID,
		Pool:       r.Pool,
		Handle:     r.Handle,
		Access:     r.Access,
		Size:       r.Size,
		Adopted:    r.Adopted,
		Retain:     r.Retain,
		Options:    r.Options,
		CreatedAt:  r.CreatedAt,
		CreatedBy:  r.CreatedBy,
		Mountpoint: m.target(r.ID),
	}
	if p := m.pools[r.Pool]; p != nil {
		v.Type = p.Type
	}
	e, ok := m.entry(r.Name)
	if !ok || e.ID != r.ID {
		return v
	}
	v.Mounted = e.mounted
	for id, u := range e.Uses {
		v.Uses = append(v.Uses, Use{MountID: id, Count: u.Count, Engine: u.Engine, Since: u.Since})
	}
	slices.SortFunc(v.Uses, func(a, b Use) int { return strings.Compare(a.MountID, b.MountID) })
	return v
}
