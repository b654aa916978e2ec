package volumes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dvol/dvold/coordination"
)

// intent is the record at intents/<name> that a host is about to create, remove
// or change the volume of that name. There is one at a time, and while there is,
// nobody else does any of that, or mounts the volume. Nothing of what it
// announces has an effect before the transaction that also deletes it, but for
// the new size of a volume.
//
// What a host that ended in the middle left is taken back by whoever meets it:
// a create's storage is removed, once the intent says so, all else has changed
// nothing, or a size that nobody was told of yet.
type intent struct {
	Schema int        `json:"schema"`
	Kind   intentKind `json:"kind"`
	Name   string     `json:"name"`
	By     caller     `json:"by"`
	Since  time.Time  `json:"since"`
	Op     string     `json:"op"`
	Record *record    `json:"record,omitempty"` // of the volume that is being created
	// Undoing says that the create is being undone: nothing can have it come true.
	Undoing bool `json:"undoing,omitempty"`

	version uint64
	stored  []byte               // what it was read from; may have fields of a newer dvold
	session coordination.Session // that announced it, if this call did
}

type intentKind string

const (
	creating intentKind = "creating"
	removing intentKind = "removing"
	changing intentKind = "changing"
)

// Intents of others are waited for: how long at most where the caller has no
// need of it to succeed, and how often they are looked at.
const (
	intentPatience = 10 * time.Second
	firstLook      = 10 * time.Millisecond
	lastLook       = 500 * time.Millisecond
)

func intentKey(name string) string { return "intents/" + name }

// announce writes an intent down, with other operations that must come true
// with it. It returns coordination.ErrConflict or ErrUnavailable.
func (m *Manager) announce(ctx context.Context, kind intentKind, name string, r *record, ops ...coordination.Op) (intent, error) {
	session, err := m.session()
	if err != nil {
		return intent{}, err
	}
	in := intent{
		Schema: recordSchema, Kind: kind, Name: name, Since: time.Now().UTC(), Op: newOp(), Record: r,
		By: caller{m.cfg.Host, session.Incarnation()},
	}
	value, err := marshal(in, nil)
	if err != nil {
		return intent{}, err
	}
	put := coordination.Put(coordination.Record{Key: intentKey(name), Value: value})
	written, err := m.commit(ctx, append([]coordination.Op{put}, ops...)...)
	if err != nil {
		if !errors.Is(err, coordination.ErrConflict) { // it may be there all the same
			m.later(&m.unfinished)
		}
		return intent{}, err
	}
	in.version, in.session = written[0].Version, session
	return in, nil
}

// finish has come true what this call announced, with ops, unless another host
// has taken it back. It does so in the stay in the cluster that announced it and
// in no later one.
func (m *Manager) finish(ctx context.Context, in intent, ops ...coordination.Op) ([]coordination.Record, error) {
	if err := m.reach.writable(); err != nil {
		return nil, err
	}
	return m.commitIn(ctx, in.session, append(ops, in.done())...)
}

// done deletes the intent.
func (in intent) done() coordination.Op {
	return coordination.Delete(coordination.Record{Key: intentKey(in.Name), Version: in.version})
}

// noIntent requires that there is none.
func noIntent(name string) coordination.Op {
	return coordination.Check(coordination.Record{Key: intentKey(name)})
}

// loadIntent returns the intent for a name, or ErrNotFound.
func (m *Manager) loadIntent(ctx context.Context, name string) (intent, error) {
	stored, err := m.stored(ctx, intentKey(name))
	if err != nil {
		return intent{}, err
	}
	if stored.Version == 0 {
		return intent{}, ErrNotFound
	}
	return decodeIntent(stored)
}

func decodeIntent(stored coordination.Record) (intent, error) {
	var in intent
	what := "record " + stored.Key
	if err := unmarshal(what, stored.Value, recordSchema, &in); err != nil {
		return intent{}, err
	}
	if intentKey(in.Name) != stored.Key || CheckName(in.Name) != nil {
		return intent{}, fmt.Errorf("%s is damaged: it has the name %.60q", what, in.Name)
	}
	if in.Kind == creating {
		if in.Record == nil || in.Record.Name != in.Name || !isID(in.Record.ID) {
			return intent{}, fmt.Errorf("%s is damaged: it does not say what is being created", what)
		}
		if in.Record.Schema > recordSchema {
			return intent{}, unavailablef("%s was %w: upgrade this host", what, errNewer)
		}
	}
	in.version, in.stored = stored.Version, stored.Value
	return in, nil
}

// condemn has an intent to create say that it is being undone. Whatever names it
// as it was before does not happen any more, however late it arrives. It returns
// coordination.ErrConflict if it was not as it was read any more.
func (m *Manager) condemn(ctx context.Context, in intent) (intent, error) {
	in.Undoing, in.Op = true, newOp()
	value, err := marshal(in, in.stored)
	if err != nil {
		return in, err
	}
	written, err := m.commit(ctx, coordination.Put(coordination.Record{Key: intentKey(in.Name), Value: value, Version: in.version}))
	if err != nil {
		return in, err
	}
	return decodeIntent(written[0])
}

// clear waits until no host is about to change a volume, and takes back what
// one that ended in the middle left. The caller holds the volume's lock.
func (m *Manager) clear(ctx context.Context, name string) error {
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		in, err := m.loadIntent(ctx, name)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		pending, err := m.pending(ctx, in)
		if err != nil {
			return err
		}
		if !pending {
			if err := m.takeBack(ctx, in); err != nil {
				return fmt.Errorf("clear what an interrupted call left: %w", err)
			}
			continue
		}
		select {
		case <-ctx.Done():
			return unavailablef("host %q has been %s it since %s", in.By.Host, in.Kind, in.Since.Local().Format(time.DateTime))
		case <-time.After(pause):
		}
	}
}

// pending says whether the host that announced an intent may still be at it.
// The caller holds the volume's lock, so on this host nobody is.
func (m *Manager) pending(ctx context.Context, in intent) (bool, error) {
	if in.By.Host == m.cfg.Host {
		return false, nil
	}
	return m.alive(ctx, in.By)
}

// alive says whether a host is still in that stay in the cluster.
func (m *Manager) alive(ctx context.Context, c caller) (bool, error) {
	h, err := m.findHost(ctx, c.Host)
	return h.Live && h.Incarnation == c.Incarnation, err
}

// takeBack undoes what an intent of a host that ended, or a call that failed,
// may have led to, and deletes it.
func (m *Manager) takeBack(ctx context.Context, in intent) error {
	if in.Kind == creating {
		return m.abandon(ctx, in)
	}
	_, err := m.commit(ctx, in.done())
	return ignoreConflict(err)
}

// ignoreConflict is for deletions: someone else came first.
func ignoreConflict(err error) error {
	if errors.Is(err, coordination.ErrConflict) {
		return nil
	}
	return err
}
