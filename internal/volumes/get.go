package volumes

import (
	"context"
	"errors"
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
	Home       string            `json:"home,omitempty"`  // the host whose pool alone has it
	AsOf       *time.Time        `json:"as_of,omitempty"` // when this was true; none means now
	Mountpoint string            `json:"mountpoint"`      // where it is mounted on this host when it is
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
	Users    []host.User `json:"users,omitempty"`   // processes of this host that have it, one for each container
	Holders  []Holder    `json:"holders"`           // hosts that have it mounted
	Owner    *Owner      `json:"owner,omitempty"`   // of an exclusive one
}

// Get describes a volume, or returns ErrNotFound. While the coordinator is away
// it describes what this host knows, and returns ErrUnavailable for a volume
// that it never saw. It asks no storage.
func (m *Manager) Get(ctx context.Context, name string) (Volume, error) {
	r, seen, err := m.recall(ctx, name)
	if err != nil {
		return Volume{}, fmt.Errorf("volume %.60q: %w", name, err)
	}
	return m.viewAsOf(r, seen), nil
}

// List describes all volumes, ordered by name; while the coordinator is away,
// those that this host knows. It asks no storage. A record that can't be read
// is left out and logged. Where names will do, Names is cheaper.
func (m *Manager) List(ctx context.Context) ([]Volume, error) {
	all := []Volume{}
	if m.reach.err() != nil {
		return m.listKnown()
	}
	short, cancel := context.WithTimeout(ctx, 4*patience) // there may be many
	defer cancel()
	stored, err := m.coord.List(short, "volumes/")
	if err != nil && ctx.Err() == nil {
		err = m.lost(err)
		if m.reach.err() != nil {
			return m.listKnown()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	for _, s := range stored {
		r, err := decode(s)
		if err != nil {
			m.log.Error("volume was left out of a list", "err", err)
			continue
		}
		all = append(all, m.view(r))
	}
	slices.SortFunc(all, func(a, b Volume) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func (m *Manager) listKnown() ([]Volume, error) {
	all := []Volume{}
	err := m.known.all(func(name string, _ time.Time) {
		if r, seen, ok := m.known.recall(name); ok {
			all = append(all, m.viewAsOf(r, seen))
		}
	})
	return all, err
}

// Inspect is Get, with what the storage and the kernel say. A storage that does
// not answer soon is a Problem, not an error, and takes nothing else away.
func (m *Manager) Inspect(ctx context.Context, name string) (Details, error) {
	r, seen, err := m.recall(ctx, name)
	if err != nil {
		return Details{}, fmt.Errorf("volume %.60q: %w", name, err)
	}
	d := Details{Volume: m.viewAsOf(r, seen), Used: -1}
	problem := func(err error) {
		if err != nil && d.Problem == "" {
			d.Problem = err.Error()
		}
	}
	// First what the storage has no part in: when it hangs that matters most.
	d.Owner, err = ask(ctx, m, func(ctx context.Context) (*Owner, error) { return m.ownerOf(ctx, r) })
	problem(err)
	d.Holders, err = ask(ctx, m, func(ctx context.Context) ([]Holder, error) { return m.holdersOf(ctx, name) })
	problem(err)
	if err != nil {
		d.Holders = []Holder{}
	}
	if e, ok := m.entry(name); ok {
		d.Users, err = m.users(ctx, e)
		problem(err)
	}
	problem(m.inspectStorage(ctx, r, &d))
	return d, nil
}

// statPatience is how long an Inspect waits for the storage.
const statPatience = 5 * time.Second

// inspectStorage adds to d what the storage knows of a volume, unless that takes
// long. It does not take the volume's lock: while a storage hangs, containers
// end, and what they used must be dropped.
func (m *Manager) inspectStorage(ctx context.Context, r record, d *Details) error {
	ctx, cancel := context.WithTimeout(ctx, statPatience)
	defer cancel()
	release, ok := m.locks.soon(ctx, "inspect/"+r.Name)
	if !ok {
		return errors.New("its storage has not answered yet what it was asked before")
	}
	info, err := callLocked(ctx, m, r.Name, release, func(ctx context.Context) (backends.Info, func(context.Context), error) {
		info, err := m.stat(ctx, r)
		return info, nil, err
	})
	if err != nil {
		return err
	}
	d.Location, d.Used = info.Location, info.Used
	if d.Size > 0 && info.Size == 0 {
		return errors.New("its size is not enforced: the pool's file system has its quotas switched off")
	}
	return nil
}

// stat asks the storage about a volume.
func (m *Manager) stat(ctx context.Context, r record) (info backends.Info, err error) {
	p, err := m.here(ctx, r)
	if err != nil {
		return info, err
	}
	err = p.do(ctx, func(b backends.Backend) error {
		info, err = b.Stat(ctx, r.Handle)
		return err
	})
	return info, err
}

func (m *Manager) viewAsOf(r record, seen time.Time) Volume {
	v := m.view(r)
	if !seen.IsZero() {
		v.AsOf = &seen
	}
	return v
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
	if p := m.pools[r.Pool]; p != nil && m.ours(r) {
		v.Type = p.Type
	}
	if r.Home != nil {
		v.Home = r.Home.Host
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
