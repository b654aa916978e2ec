package volumes

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/coordination"
)

// Finding is what a scan says of one description that it found in a pool.
type Finding struct {
	Pool    string `json:"pool"`
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"`
	State   string `json:"state"`             // see the constants
	Problem string `json:"problem,omitempty"` // why nothing was, or can be, done
}

// States of a Finding.
const (
	FoundKnown    = "known"    // the records have it
	FoundMissing  = "missing"  // they don't, and an import would bring it back
	FoundImported = "imported" // it was brought back
	FoundTrashed  = "trashed"  // it was brought back into the trash, as it was there or its name is taken
	FoundForeign  = "foreign"  // it is another cluster's
	FoundDamaged  = "damaged"  // the description can't be read, or there is no data to it
)

// rescued is how long what is brought back into the trash stays there at least.
const rescued = 24 * time.Hour

// Scan compares what lies in a pool of this host with the records, and brings
// what they miss back if bring says so: for the day on which they were lost, or
// a host's own pool after the host lost its identity. Volumes of other clusters
// are left alone, except those of the cluster from, unless it is empty. It
// returns ErrUnavailable, and with it what was found by then.
func (m *Manager) Scan(ctx context.Context, poolName string, bring bool, from string) ([]Finding, error) {
	p, err := m.pool(ctx, poolName)
	if err != nil {
		return nil, err
	}
	var texts map[string][]byte
	var partly error
	err = p.do(ctx, func(b backends.Backend) error {
		texts, partly = b.Descriptions(ctx)
		return nil
	})
	if err == nil && texts == nil {
		err = partly
	}
	if err != nil {
		return nil, fmt.Errorf("scan pool %q: %w", poolName, err)
	}
	findings := []Finding{}
	for _, id := range slices.Sorted(maps.Keys(texts)) {
		f, err := m.scanOne(ctx, p, id, texts[id], bring, from)
		if err != nil {
			return findings, fmt.Errorf("scan pool %q: volume %s: %w", poolName, id, err)
		}
		findings = append(findings, f)
	}
	if partly != nil {
		return findings, fmt.Errorf("scan pool %q: %w", poolName, partly)
	}
	return findings, nil
}

func (m *Manager) scanOne(ctx context.Context, p *pool, id string, text []byte, bring bool, from string) (Finding, error) {
	f := Finding{Pool: p.Name, ID: id, State: FoundDamaged}
	var d description
	err := unmarshal("the description", text, recordSchema, &d)
	r := d.Record
	if err == nil && (r.ID != id || CheckName(r.Name) != nil || r.Schema > recordSchema) {
		err = fmt.Errorf("the description is of %.60q", r.ID)
	}
	if err != nil {
		f.Problem = err.Error()
		return f, nil
	}
	f.Name = r.Name
	mine := d.Cluster == m.copyOfCluster().ID
	known, err := m.withID(ctx, r.Name, r.ID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return f, err
	}
	if err == nil && m.ours(known) {
		f.State = FoundKnown
		return f, nil
	}
	if !mine && (from == "" || d.Cluster != from) {
		f.State, f.Problem = FoundForeign, "it is of the cluster "+d.Cluster
		return f, nil
	}
	r.Pool, r.Home = p.Name, m.homeOf(p)
	_, err = m.stat(ctx, r)
	switch {
	case errors.Is(err, backends.ErrNotFound):
		f.Problem = "its data is not there"
		return f, nil
	case err != nil && (!r.Adopted || ctx.Err() != nil):
		return f, err
	case err != nil: // what is adopted may lie in a storage of its own, which is gone for good
		f.State, f.Problem = FoundMissing, err.Error()
		return f, nil
	}
	f.State = FoundMissing
	if !bring {
		return f, nil
	}
	return m.bringBack(ctx, f, r, known)
}

// bringBack writes the record of a volume that the records miss, or know as
// another host's: known has an ID then.
func (m *Manager) bringBack(ctx context.Context, f Finding, r, known record) (Finding, error) {
	current, err := m.stored(ctx, volumeKey(r.Name))
	if err != nil {
		return f, err
	}
	var ops []coordination.Op
	f.State = FoundImported
	switch {
	case known.ID != "": // of this host before it lost its identity
		home, err := m.findHost(ctx, known.Home.Host)
		if err != nil {
			return f, err
		}
		if home.Live && home.Name != m.cfg.Host {
			f.State, f.Problem = FoundMissing, fmt.Sprintf("host %q, which is live, says that it has it", home.Name)
			return f, nil
		}
		known.Pool, known.Home = r.Pool, r.Home
		r = known
		if r.State != stateReady {
			f.State = FoundTrashed
		}
	case current.Version != 0, r.State != stateReady:
		f.State = FoundTrashed
		now := time.Now().UTC()
		r.State, r.PurgedBy = stateTrashed, nil
		if r.RemovedAt == nil {
			r.RemovedAt, r.RemovedBy = &now, m.cfg.Host
		} else if at := now.Add(rescued); r.PurgeAt != nil && r.PurgeAt.Before(at) {
			r.PurgeAt = &at
		}
	}
	key := volumeKey(r.Name)
	if f.State == FoundTrashed {
		key = trashKey(r.ID)
	} else {
		ops = append(ops, noIntent(r.Name))
	}
	if r.Adopted && r.version == 0 && f.State == FoundImported {
		claim, err := m.claim(ctx, r)
		if err != nil {
			f.State, f.Problem = FoundMissing, err.Error()
			return f, nil
		}
		ops = append(ops, claim...)
	}
	stored, err := r.at(key)
	if err != nil {
		return f, err
	}
	if _, err := m.commitInDoubt(ctx, append(ops, coordination.Put(stored))...); err != nil {
		return f, err
	}
	m.names.changed()
	m.redescribe(ctx, r)
	m.log.Warn("volume was brought back", "volume", r.Name, "pool", r.Pool, "id", r.ID, "state", f.State)
	return f, nil
}
