package volumes

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/dvol/dvold/coordination"
)

// recordSchema is the newest form of a record that this dvold understands.
const recordSchema = 1

// Access says who may have a volume mounted.
type Access string

const (
	AccessShared    Access = "shared"    // many hosts read and write
	AccessExclusive Access = "exclusive" // one host at a time
	AccessReadOnly  Access = "readonly"  // many hosts read, nobody writes
)

// state is how far a volume has come.
type state string

const (
	stateReady   state = "ready"
	stateTrashed state = "trashed" // removed; data and handle as they were
	statePurging state = "purging" // intent to delete the data for good
)

// record is what the coordinator knows of a volume, at volumes/<shard>/<name>
// while it exists and at trash/<ID> afterwards. Moving it between the two is
// all that removal and undelete do.
type record struct {
	Schema    int               `json:"schema"`
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Pool      string            `json:"pool"`
	Handle    string            `json:"handle"`
	Home      *home             `json:"home,omitempty"` // the host whose disk has it; none: all that have the pool
	Adopted   bool              `json:"adopted,omitempty"`
	Access    Access            `json:"access"`
	Size      int64             `json:"size,omitempty"`
	Retain    bool              `json:"retain,omitempty"`
	Options   map[string]string `json:"options,omitempty"` // as given at creation
	State     state             `json:"state"`
	Op        string            `json:"op"` // of the last write
	CreatedAt time.Time         `json:"created_at"`
	CreatedBy string            `json:"created_by"`
	RemovedAt *time.Time        `json:"removed_at,omitempty"`
	RemovedBy string            `json:"removed_by,omitempty"`
	PurgeAt   *time.Time        `json:"purge_at,omitempty"`  // none: kept until an operator purges it
	PurgedBy  *caller           `json:"purged_by,omitempty"` // once purging

	version uint64
	stored  []byte // what it was read from; may have fields of a newer dvold
}

// home is the host that a pool of its own belongs to.
type home struct {
	Host   string `json:"host"`
	HostID string `json:"host_id"` // tells it from another that was given its name
}

// caller is a host in one of its stays in the cluster.
type caller struct {
	Host        string `json:"host"`
	Incarnation uint64 `json:"incarnation"`
}

// volumeKey spreads volumes over 256 shards, so that a list of many can be
// fetched in parts.
func volumeKey(name string) string {
	sum := sha256.Sum256([]byte(name))
	return fmt.Sprintf("volumes/%02x/%s", sum[0], name)
}

func trashKey(id string) string { return "trash/" + id }

// at is r as a record under key, over the version it was read at; fresh is
// the same for a key that must not exist yet.
func (r record) at(key string) (coordination.Record, error) {
	r.Schema = recordSchema
	r.Op = newOp()
	value, err := marshal(r, r.stored)
	if err != nil {
		return coordination.Record{}, fmt.Errorf("encode record of volume %q: %w", r.Name, err)
	}
	return coordination.Record{Key: key, Value: value, Version: r.version}, nil
}

func (r record) fresh(key string) (coordination.Record, error) {
	r.version = 0
	return r.at(key)
}

// deleted deletes the record, as it was read at key.
func (r record) deleted(key string) coordination.Op {
	return coordination.Delete(coordination.Record{Key: key, Version: r.version})
}

// decode reads a stored record. A newer one, which this dvold must not touch,
// is ErrUnavailable.
func decode(stored coordination.Record) (record, error) {
	var r record
	what := "record " + strconv.Quote(stored.Key)
	if err := unmarshal(what, stored.Value, recordSchema, &r); err != nil {
		return record{}, err
	}
	if CheckName(r.Name) != nil || !isID(r.ID) {
		return record{}, fmt.Errorf("%s is damaged: it has the name %.60q and the ID %.60q", what, r.Name, r.ID)
	}
	r.version, r.stored = stored.Version, stored.Value
	return r, nil
}

// stored returns what lies under key, at version 0 if nothing does.
func (m *Manager) stored(ctx context.Context, key string) (coordination.Record, error) {
	stored, err := m.coord.Get(ctx, key)
	if errors.Is(err, coordination.ErrNotFound) {
		return coordination.Record{Key: key}, nil
	}
	return stored, unavailable(err)
}

// load returns the record at key, or ErrNotFound.
func (m *Manager) load(ctx context.Context, key string) (record, error) {
	stored, err := m.stored(ctx, key)
	if err != nil {
		return record{}, err
	}
	if stored.Version == 0 {
		return record{}, ErrNotFound
	}
	return decode(stored)
}

// withID returns the record of the volume that has, or had, that name and has
// the ID, whether it exists or is in the trash, or ErrNotFound.
func (m *Manager) withID(ctx context.Context, name, id string) (record, error) {
	for _, key := range []string{volumeKey(name), trashKey(id)} {
		r, err := m.load(ctx, key)
		if err == nil && r.ID == id {
			return r, nil
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return record{}, err
		}
	}
	return record{}, ErrNotFound
}

// existing returns the record of a volume, or ErrNotFound.
func (m *Manager) existing(ctx context.Context, name string) (record, error) {
	if CheckName(name) != nil {
		return record{}, ErrNotFound
	}
	if err := m.reach.err(); err != nil {
		return record{}, err
	}
	r, err := m.load(ctx, volumeKey(name))
	if errors.Is(err, ErrNotFound) {
		if err := m.sure(ctx); err != nil {
			return record{}, err
		}
	}
	switch {
	case errors.Is(err, ErrNotFound):
		m.known.gone(name)
	case err == nil && r.State != stateReady:
		err = unavailablef("its record has the state %q, which this dvold does not know: upgrade this host", r.State)
	case err == nil:
		m.known.saw(r)
	}
	return r, err
}

// look is existing for those who don't wait long.
func (m *Manager) look(ctx context.Context, name string) (record, error) {
	return ask(ctx, m, func(ctx context.Context) (record, error) { return m.existing(ctx, name) })
}

// recall is look, but falls back on what this host knows when the coordinator
// can't be asked: then seen tells when the record was true, and is otherwise
// zero. Of volumes that it never saw it knows nothing: ErrUnseen.
func (m *Manager) recall(ctx context.Context, name string) (r record, seen time.Time, err error) {
	r, err = m.look(ctx, name)
	if err == nil || !errors.Is(err, ErrUnavailable) || errors.Is(err, errNewer) {
		return r, time.Time{}, err
	}
	if r, seen, ok := m.known.recall(name); ok {
		return r, seen, nil
	}
	return record{}, time.Time{}, fmt.Errorf("%w: %w", ErrUnseen, err)
}
