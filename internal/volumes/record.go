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

// AccessShared lets many hosts read and write.
const AccessShared Access = "shared"

// state is how far a volume has come.
type state string

const (
	stateCreating state = "creating" // intent written, the storage may or may not have it
	stateReady    state = "ready"
	stateTrashed  state = "trashed" // removed; data and handle as they were
	statePurging  state = "purging" // intent to delete the data for good
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
	PurgeAt   *time.Time        `json:"purge_at,omitempty"` // none: kept until an operator purges it

	version uint64
	stored  []byte // what it was read from; may have fields of a newer dvold
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
	value, err := r.marshal()
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
	if checkName(r.Name) != nil || !isID(r.ID) {
		return record{}, fmt.Errorf("%s is damaged: it has the name %.60q and the ID %.60q", what, r.Name, r.ID)
	}
	r.version, r.stored = stored.Version, stored.Value
	return r, nil
}

// load returns the record at key, or ErrNotFound.
func (m *Manager) load(ctx context.Context, key string) (record, error) {
	stored, err := m.coord.Get(ctx, key)
	if errors.Is(err, coordination.ErrNotFound) {
		return record{}, ErrNotFound
	}
	if err != nil {
		return record{}, unavailable(err)
	}
	return decode(stored)
}

// existing returns the record of a volume that users may see, or ErrNotFound.
func (m *Manager) existing(ctx context.Context, name string) (record, error) {
	if checkName(name) != nil {
		return record{}, fmt.Errorf("volume %.60q: %w", name, ErrNotFound)
	}
	r, err := m.load(ctx, volumeKey(name))
	if err == nil && r.State == stateCreating {
		err = ErrNotFound
	}
	if err != nil {
		return record{}, fmt.Errorf("volume %q: %w", name, err)
	}
	return r, nil
}

// unavailable marks a coordinator's passing failure as ErrUnavailable.
func unavailable(err error) error {
	if errors.Is(err, coordination.ErrUnavailable) || errors.Is(err, coordination.ErrUnknown) || errors.Is(err, coordination.ErrSessionLost) {
		return fmt.Errorf("%w: %w", err, ErrUnavailable)
	}
	return err
}
