package volumes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/dvol/dvold/coordination"
)

// clusterKey is where the records say what cluster they are of. Every host
// keeps a copy of what it saw there last: so none takes records that were
// lost, restored from an old snapshot, or are another cluster's, for the truth,
// and tells Docker that its volumes don't exist (which would make the engine
// forget them).
const clusterKey = "cluster"

// clusterLock is held by who compares or changes the cluster's record. No volume
// has such a name.
const clusterLock = "cluster/"

// tickInterval is about how often the record's clock goes on: a snapshot that
// is older than that is noticed when it is restored.
const tickInterval = time.Minute

// cluster is the record at clusterKey, and this host's copy of it.
type cluster struct {
	Schema     int    `json:"schema"`
	ID         string `json:"id"`
	Generation uint64 `json:"generation"` // raised by an operator who accepts older records
	Tick       uint64 `json:"tick"`       // raised about once a minute by some host
	// MinWriter is the record schema that a dvold must know to write: it is
	// raised when all hosts have been upgraded.
	MinWriter int `json:"min_writer"`
}

// What check finds wrong with the coordinator's records.
var (
	errRecordsLost = errors.New("the cluster's records are gone (lost, or another prefix is configured)")
	errRecordsOld  = errors.New("the cluster's records went back in time (an old snapshot was restored)")
	errForeign     = errors.New("the coordinator has the records of another cluster")
)

const howToGoOn = "to go on with what there is: dvold pool scan --import on hosts that have the pools, then dvold cluster accept"

// Cluster describes the cluster that this host is of.
type Cluster struct {
	ID         string `json:"id"`
	Generation uint64 `json:"generation"`
	Tick       uint64 `json:"tick"`
	MinWriter  int    `json:"min_writer"`
	Schema     int    `json:"schema"`            // the newest that this dvold can write
	Problem    string `json:"problem,omitempty"` // why the coordinator can't be asked, believed, or told anything
}

// Cluster describes the cluster as this host knows it. It asks nobody.
func (m *Manager) Cluster() Cluster {
	c := m.copyOfCluster()
	d := Cluster{ID: c.ID, Generation: c.Generation, Tick: c.Tick, MinWriter: c.MinWriter, Schema: recordSchema}
	err := m.reach.writable()
	if err == nil {
		_, err = m.session()
	}
	if err != nil {
		d.Problem = err.Error()
	}
	return d
}

// check compares the cluster's record with this host's copy, and decides
// whether the coordinator's records are to be believed.
func (m *Manager) check(ctx context.Context) error {
	release, err := m.locks.acquire(ctx, clusterLock)
	if err != nil {
		return unavailablef("compare the cluster's record: %w", err)
	}
	defer release()
	return m.compare(ctx)
}

// compare is check for those who hold clusterLock. So nobody changes the copy
// between the reading of the record and the comparison.
func (m *Manager) compare(ctx context.Context) error {
	known := m.copyOfCluster()
	stored, err := m.stored(ctx, clusterKey)
	if err != nil {
		return err
	}
	if stored.Version == 0 {
		if known.ID != "" {
			m.doubt(errRecordsLost)
			return nil
		}
		return m.establish(ctx)
	}
	var c cluster
	if err := unmarshal("record "+clusterKey, stored.Value, recordSchema, &c); err != nil {
		m.doubt(err)
		return nil
	}
	switch {
	case known.ID != "" && c.ID != known.ID:
		m.doubt(fmt.Errorf("%w: %s, and this host is of %s; if it is to change, remove %s", errForeign, c.ID, known.ID, m.clusterFile()))
		return nil
	case c.Generation < known.Generation, c.Generation == known.Generation && c.Tick < known.Tick:
		m.doubt(fmt.Errorf("%w: their clock is at %d.%d, and this host has seen %d.%d", errRecordsOld, c.Generation, c.Tick, known.Generation, known.Tick))
		return nil
	}
	m.reach.mu.Lock()
	m.reach.newer = nil
	if c.MinWriter > recordSchema {
		m.reach.newer = fmt.Errorf("the cluster is written by newer dvolds (schema %d, this one knows %d): upgrade this host", c.MinWriter, recordSchema)
	}
	m.reach.mu.Unlock()
	if c != known {
		if err := m.keepCluster(c); err != nil {
			return err
		}
	}
	m.doubt(nil)
	return nil
}

// sure is for those who read just now that there is no such volume: it returns
// ErrUnavailable if all the records have gone, or gone back in time, which the
// watch may be late to tell.
func (m *Manager) sure(ctx context.Context) error {
	stored, err := m.coord.Get(ctx, clusterKey)
	var c cluster
	if err == nil && unmarshal("record "+clusterKey, stored.Value, recordSchema, &c) == nil && c == m.copyOfCluster() {
		return nil
	}
	if err := m.check(ctx); err != nil {
		return err
	}
	return m.reach.err()
}

func (m *Manager) copyOfCluster() cluster {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.cluster
}

// doubt has the coordinator not believed for that reason, or believed again.
func (m *Manager) doubt(reason error) {
	if errors.Is(reason, errRecordsLost) || errors.Is(reason, errRecordsOld) {
		reason = fmt.Errorf("%w; %s", reason, howToGoOn)
	}
	m.reach.mu.Lock()
	before := m.reach.doubt
	m.reach.doubt = reason
	m.reach.mu.Unlock()
	switch {
	case reason != nil && before == nil:
		m.log.Error("the coordinator is not believed: mounted volumes go on, nothing can be created or removed", "err", reason)
	case reason == nil && before != nil:
		m.log.Info("the coordinator is believed again")
		m.mu.Lock()
		clear(m.holdings) // read anew
		m.mu.Unlock()
		m.later(&m.unsettled)
	}
}

// establish makes the cluster's record, unless another host is quicker.
func (m *Manager) establish(ctx context.Context) error {
	c := cluster{Schema: recordSchema, ID: newOp() + newOp(), Generation: 1, Tick: 1, MinWriter: recordSchema}
	err := m.putCluster(ctx, c, coordination.Record{Key: clusterKey})
	if errors.Is(err, coordination.ErrConflict) {
		return m.compare(ctx)
	}
	return err
}

// putCluster writes the cluster's record over the stored one, then this host's
// copy.
func (m *Manager) putCluster(ctx context.Context, c cluster, stored coordination.Record) error {
	value, err := marshal(c, stored.Value)
	if err != nil {
		return err
	}
	session, err := m.session()
	if err != nil {
		return err
	}
	_, err = session.Commit(ctx, coordination.Put(coordination.Record{Key: clusterKey, Value: value, Version: stored.Version}))
	if err != nil {
		return fmt.Errorf("write the cluster's record: %w", unavailable(err))
	}
	return m.keepCluster(c)
}

// follow watches the cluster's record, which also tells at once when the
// coordinator is lost, or its records are replaced. What a watch yields may be
// out of date by then, and its error that of one connection, such as to a leader
// that was, so the record is read again.
func (m *Manager) follow() {
	defer m.calls.Done()
	for _, err := range m.coord.Watch(m.background, clusterKey) {
		limit := 4 * patience
		if err != nil {
			limit = patience
		}
		ctx, cancel := context.WithTimeout(m.background, limit)
		err = m.check(ctx)
		cancel()
		switch {
		case m.background.Err() != nil:
			return
		case err != nil:
			m.lost(err)
		default:
			m.answered()
		}
	}
}

// tick has the cluster's clock go on if no other host has since the last call,
// which saw the record at version last. It returns the version it sees.
func (m *Manager) tick(ctx context.Context, last uint64) (uint64, error) {
	release, err := m.locks.acquire(ctx, clusterLock)
	if err != nil {
		return last, err
	}
	defer release()
	stored, err := m.coord.Get(ctx, clusterKey)
	if err != nil || stored.Version != last {
		return stored.Version, err
	}
	if err := m.compare(ctx); err != nil { // the watch may be late, and the clock must not go back
		return last, err
	}
	if err := m.reach.writable(); err != nil {
		return last, err
	}
	c := m.copyOfCluster()
	c.Tick++
	err = m.putCluster(ctx, c, stored)
	if errors.Is(err, coordination.ErrConflict) {
		err = nil
	}
	return last, err
}

// Accept has the whole cluster believe the coordinator's records as they are
// now, although they were lost or went back in time. It returns ErrInvalid if
// there is no such doubt, or ErrUnavailable.
func (m *Manager) Accept(ctx context.Context) error {
	release, err := m.locks.acquire(ctx, clusterLock)
	if err != nil {
		return unavailablef("accept the cluster's records: %w", err)
	}
	defer release()
	doubt := m.reach.doubted()
	if !errors.Is(doubt, errRecordsLost) && !errors.Is(doubt, errRecordsOld) {
		return fmt.Errorf("accept the cluster's records: nothing is wrong with them here: %w", ErrInvalid)
	}
	stored, err := m.stored(ctx, clusterKey)
	if err != nil {
		return fmt.Errorf("accept the cluster's records: %w", err)
	}
	c := m.copyOfCluster()
	c.Generation++
	c.Tick++
	if err := m.putCluster(ctx, c, stored); err != nil {
		return fmt.Errorf("accept the cluster's records: %w", err)
	}
	m.log.Warn("the cluster's records were accepted as they are", "generation", c.Generation)
	return m.compare(ctx)
}

func (m *Manager) clusterFile() string { return m.cfg.StateDir + "/cluster.json" }

// keepCluster writes this host's copy.
func (m *Manager) keepCluster(c cluster) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := writeFile(m.clusterFile(), append(text, '\n')); err != nil {
		return fmt.Errorf("write this host's copy of the cluster's record: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cluster = c
	return nil
}

// loadCluster reads this host's copy, or a zero one if it was in no cluster.
func (m *Manager) loadCluster() error {
	text, err := os.ReadFile(m.clusterFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read this host's copy of the cluster's record: %w", err)
	}
	return unmarshal("this host's copy of the cluster's record, "+m.clusterFile(), text, recordSchema, &m.cluster)
}
