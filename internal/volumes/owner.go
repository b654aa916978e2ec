package volumes

import (
	"context"
	"fmt"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/coordination"
)

// ownerState is how an exclusive volume is owned.
type ownerState string

const (
	ownerFree      ownerState = "free"
	ownerHeld      ownerState = "held"
	ownerReleasing ownerState = "releasing" // used by no container any more, and not proven gone yet
	ownerFencing   ownerState = "fencing"   // a taker is about to make sure that the host can write no more
)

// owner is the record at owners/<ID> that says which host may write to an
// exclusive volume. It is keyed by the volume's ID, so that it lives exactly as
// long as the data, and Epoch grows whatever becomes of the name. Every
// transaction that changes it names the version that it was read at.
//
// docs/takeover.md says who may change it, when, and why that is safe.
type owner struct {
	Schema int        `json:"schema"`
	Volume string     `json:"volume"` // its ID
	State  ownerState `json:"state"`
	Epoch  uint64     `json:"epoch"` // counts the owners
	Op     string     `json:"op"`    // of the last write

	// Of the host that owns it, or owned it last.
	Host        string    `json:"host,omitempty"`
	HostID      string    `json:"host_id,omitempty"`
	Boot        string    `json:"boot,omitempty"`
	Journal     string    `json:"journal,omitempty"` // the one that knows of its mounts
	Incarnation uint64    `json:"incarnation,omitempty"`
	Since       time.Time `json:"since,omitzero"`
	Terms       terms     `json:"terms"`
	Problem     string    `json:"problem,omitempty"` // why it is still releasing

	Taker *taker `json:"taker,omitempty"` // while fencing

	version uint64
	stored  []byte // what it was read from; may have fields of a newer dvold
}

// taker is the host that is taking a volume over.
type taker struct {
	caller
	Since time.Time `json:"since"`
	How   string    `json:"how"`            // the method of the proof to come
	Over  bool      `json:"over,omitempty"` // it gave up
}

// fenceTerms are what a fencer needs to cut the owner off.
type fenceTerms struct {
	Method   string            `json:"method"`
	Identity backends.Identity `json:"identity"`
}

func ownerKey(id string) string { return "owners/" + id }

// loadOwner returns the owner's record of a volume; a free one if nobody ever
// owned it.
func (m *Manager) loadOwner(ctx context.Context, id string) (owner, error) {
	stored, err := m.stored(ctx, ownerKey(id))
	if err != nil {
		return owner{}, err
	}
	if stored.Version == 0 {
		return owner{Volume: id, State: ownerFree}, nil
	}
	return decodeOwner(stored)
}

func decodeOwner(stored coordination.Record) (owner, error) {
	var o owner
	what := fmt.Sprintf("record %q", stored.Key)
	if err := unmarshal(what, stored.Value, recordSchema, &o); err != nil {
		return owner{}, err
	}
	if ownerKey(o.Volume) != stored.Key || o.State != ownerFree && o.Host == "" || o.State == ownerFencing && o.Taker == nil {
		return owner{}, fmt.Errorf("%s is damaged: it is of %.60q, in the state %.20q", what, o.Volume, o.State)
	}
	switch o.State {
	case ownerFree, ownerHeld, ownerReleasing, ownerFencing:
	default:
		return owner{}, unavailablef("%s has the state %.20q, which this dvold does not know: upgrade this host", what, o.State)
	}
	o.version, o.stored = stored.Version, stored.Value
	return o, nil
}

// put writes the record over the version it was read at.
func (o owner) put() (coordination.Op, error) {
	o.Schema, o.Op = recordSchema, newOp()
	value, err := marshal(o, o.stored)
	if err != nil {
		return coordination.Op{}, fmt.Errorf("encode the owner of %s: %w", o.Volume, err)
	}
	return coordination.Put(coordination.Record{Key: ownerKey(o.Volume), Value: value, Version: o.version}), nil
}

// free is the record once nobody owns the volume; it keeps the epoch.
func (o owner) free() owner {
	return owner{Volume: o.Volume, State: ownerFree, Epoch: o.Epoch, version: o.version, stored: o.stored}
}

// abandoned is free for an owner of whom it is not known that it let go in order: it keeps
// what the storage may know that one by for a while longer, which the next owner ends.
func (o owner) abandoned() owner {
	free := o.free()
	free.Terms.Fence = o.Terms.Fence
	return free
}

// left is what the storage may still know of the last owner by, which the next one has
// for its identity until it has connected and thereby ended that; or next as it is.
func (o owner) left(next *fenceTerms) *fenceTerms {
	last := o.Terms.Fence
	if last == nil || last.Method != next.Method || last.Identity.Domain != next.Identity.Domain {
		return next
	}
	return last
}

// ownedBy returns the record as it is once this host owns the volume, as the next
// owner, in that stay in the cluster.
func (m *Manager) ownedBy(o owner, incarnation uint64, t terms) owner {
	return owner{
		Volume: o.Volume, State: ownerHeld, Epoch: o.Epoch + 1,
		Host: m.cfg.Host, HostID: m.me.ID, Boot: m.me.Boot, Journal: m.journal.id, Incarnation: incarnation,
		Since: time.Now().UTC(), Terms: t, version: o.version, stored: o.stored,
	}
}

// ofThisHost tells whether the record is of this machine, under whatever name.
func (m *Manager) ofThisHost(o owner) bool { return o.State != ownerFree && o.HostID == m.me.ID }

// provablyGone tells whether nothing of what an earlier stay of this host in the
// cluster owned can be left: its kernel is gone, or the journal that knew of
// the mount is ours and has none. Same boot and another journal means that
// somebody lost the state, and the volume may still be mounted; a stay that this
// host's disk does not know of is another machine's, of which this one is a copy.
func (m *Manager) provablyGone(o owner, e entry, known bool) bool {
	if o.Boot == m.me.Boot {
		return o.Journal == m.journal.id && (!known || e.ID != o.Volume || !e.mounted && len(e.Uses) == 0)
	}
	return m.loadStays().has(o.Incarnation)
}

// names says who owns a volume, for people.
func (o owner) names() string {
	text := fmt.Sprintf("owned by host %q since %s (epoch %d)", o.Host, o.Since.Local().Format(time.DateTime), o.Epoch)
	if o.State == ownerReleasing && o.Problem != "" {
		text += ", which can't let go of it: " + o.Problem
	}
	return text
}

// ownerless are the operations that delete the record of who owned a volume,
// which goes with the last of the volume.
func (m *Manager) ownerless(ctx context.Context, r record) ([]coordination.Op, error) {
	stored, err := m.stored(ctx, ownerKey(r.ID))
	if err != nil || stored.Version == 0 {
		return nil, err
	}
	return []coordination.Op{coordination.Delete(stored)}, nil
}
