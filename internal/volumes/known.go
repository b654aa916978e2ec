package volumes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/dvol/dvold/coordination"
)

// How long what this host knows is good for: it may mount a volume that it
// asked after within knownFor, and asks again after knownFresh.
const (
	knownFor   = 24 * time.Hour
	knownFresh = time.Hour
)

var knownBucket = []byte("volumes")

// known is what this host remembers of the volumes that it made, mounted or was
// asked about, for when the coordinator is away. It outlives reboots. Entries
// of volumes that are gone are dropped when that is noticed.
type known struct {
	db *bbolt.DB

	flushes sync.Mutex // one at a time

	mu      sync.Mutex // guards the fields below
	dirty   map[string]acquaintance
	flushed map[string]acquaintance // those that a flush is writing
}

// acquaintance is a volume's record as this host saw it last.
type acquaintance struct {
	Schema  int       `json:"schema"`
	Key     string    `json:"key"`
	Value   []byte    `json:"value"`
	Version uint64    `json:"version"`
	Seen    time.Time `json:"seen"`
}

// openKnown opens the file at path, or makes it. A damaged one is an error.
func openKnown(path string) (*known, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, fmt.Errorf("%s is in use by another dvold: stop that one, or give this one another state directory", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open what this host knows, %s: %w; remove it to start anew", path, err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(knownBucket)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open what this host knows: %w", err), db.Close())
	}
	return &known{db: db, dirty: make(map[string]acquaintance)}, nil
}

// saw notes r as it was read just now. It is on the disk after the next flush.
func (k *known) saw(r record) {
	if r.stored == nil {
		return
	}
	a := acquaintance{Schema: recordSchema, Key: volumeKey(r.Name), Value: r.stored, Version: r.version, Seen: time.Now().UTC()}
	if old, ok := k.find(r.Name); ok && old.Version == a.Version && a.Seen.Sub(old.Seen) < knownFresh/2 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dirty[r.Name] = a
}

// keep is saw for a volume that this host makes or mounts: one that is new to it
// is on the disk before it returns. Docker will ask after it when the host comes
// back from a power cut, when the coordinator may be away.
func (k *known) keep(r record) error {
	k.saw(r)
	onDisk := false
	err := k.db.View(func(tx *bbolt.Tx) error {
		onDisk = tx.Bucket(knownBucket).Get([]byte(r.Name)) != nil
		return nil
	})
	if err != nil || onDisk {
		return err
	}
	return k.flush()
}

// gone drops a volume that does not exist any more.
func (k *known) gone(name string) {
	if _, ok := k.find(name); !ok {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dirty[name] = acquaintance{}
}

// find returns what is known of a volume.
func (k *known) find(name string) (a acquaintance, ok bool) {
	k.mu.Lock()
	if a, ok = k.dirty[name]; !ok {
		a, ok = k.flushed[name]
	}
	k.mu.Unlock()
	if ok {
		return a, a.Schema != 0
	}
	err := k.db.View(func(tx *bbolt.Tx) error {
		value := tx.Bucket(knownBucket).Get([]byte(name))
		if value == nil {
			return nil
		}
		ok = true
		return unmarshal("what is known of "+name, value, recordSchema, &a)
	})
	return a, ok && err == nil
}

// recall returns the record of a volume as it was when it was seen last.
func (k *known) recall(name string) (r record, seen time.Time, ok bool) {
	a, ok := k.find(name)
	if !ok {
		return record{}, time.Time{}, false
	}
	r, err := decode(coordination.Record{Key: a.Key, Value: a.Value, Version: a.Version})
	return r, a.Seen, err == nil && r.Name == name
}

// all calls yield with each volume that is known, by name. It does so outside of
// the transaction, for yield may recall: while a writer waits for one reader, to
// make the file larger, it lets no other begin.
func (k *known) all(yield func(name string, seen time.Time)) error {
	if err := k.flush(); err != nil {
		return err
	}
	type one struct {
		name string
		seen time.Time
	}
	var all []one
	err := k.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(knownBucket).ForEach(func(name, value []byte) error {
			var a acquaintance
			if unmarshal("what is known", value, recordSchema, &a) == nil {
				all = append(all, one{string(name), a.Seen})
			}
			return nil
		})
	})
	for _, o := range all {
		yield(o.name, o.seen)
	}
	return err
}

// flush writes to the disk what was noted since the last.
func (k *known) flush() error {
	k.flushes.Lock()
	defer k.flushes.Unlock()
	k.mu.Lock()
	some := k.dirty
	k.dirty, k.flushed = make(map[string]acquaintance), some
	k.mu.Unlock()
	if len(some) == 0 {
		return nil
	}
	err := k.db.Update(func(tx *bbolt.Tx) error {
		for name, a := range some {
			if a.Schema == 0 {
				if err := tx.Bucket(knownBucket).Delete([]byte(name)); err != nil {
					return err
				}
				continue
			}
			value, err := json.Marshal(a)
			if err != nil {
				return err
			}
			if err := tx.Bucket(knownBucket).Put([]byte(name), value); err != nil {
				return err
			}
		}
		return nil
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	k.flushed = nil
	if err != nil {
		maps.Copy(some, k.dirty)
		k.dirty = some
		return fmt.Errorf("write what this host knows: %w", err)
	}
	return nil
}

func (k *known) close() error { return errors.Join(k.flush(), k.db.Close()) }

// remind keeps a volume in mind that this host made or mounted, for which it is
// too late to fail.
func (m *Manager) remind(r record) {
	if err := m.known.keep(r); err != nil {
		m.log.Warn("a volume will be unknown when the coordinator is away after a restart", "volume", r.Name, "err", err)
	}
}

// refresh asks after volumes that were not asked after for long, so that what
// is known of them stays good, and forgets those that are gone.
func (m *Manager) refresh(ctx context.Context) error {
	var stale []string
	err := m.known.all(func(name string, seen time.Time) {
		if time.Since(seen) > knownFresh {
			stale = append(stale, name)
		}
	})
	if err != nil {
		return err
	}
	for _, name := range stale {
		if _, err := m.look(ctx, name); errors.Is(err, ErrUnavailable) {
			return err
		}
	}
	return nil
}
