package volumes

import (
	"context"
	"errors"
	"fmt"

	"github.com/dvol/dvold/backends"
)

// description is what lies beside a volume's data, for the day on which the
// cluster's records are lost: its record, and the cluster it is of.
type description struct {
	Schema  int    `json:"schema"`
	Cluster string `json:"cluster"` // its ID
	Record  record `json:"record"`
}

// describe writes r's description into its pool.
func (m *Manager) describe(ctx context.Context, r record) error {
	p, err := m.pool(ctx, r.Pool)
	if err != nil {
		return err
	}
	d := description{Schema: recordSchema, Cluster: m.copyOfCluster().ID, Record: r}
	d.Record.Schema = recordSchema
	text, err := marshal(d, nil)
	if err != nil {
		return fmt.Errorf("describe: %w", err)
	}
	return p.do(ctx, func(b backends.Backend) error { return b.Describe(ctx, r.ID, text) })
}

// redescribe is describe after a change that has happened: the description is
// for an emergency, so that it is late is no reason to fail.
func (m *Manager) redescribe(ctx context.Context, r record) {
	if !m.ours(r) || m.pools[r.Pool] == nil {
		return
	}
	if err := m.describe(ctx, r); err != nil {
		m.log.Warn("the description beside a volume is out of date", "volume", r.Name, "pool", r.Pool, "err", err)
	}
}

// undescribe takes away what is kept in the pool about a volume that is let go of:
// its description, and the epoch of its last owner.
func (m *Manager) undescribe(ctx context.Context, r record) {
	p := m.pools[r.Pool]
	if p == nil || !m.ours(r) {
		return
	}
	err := p.do(ctx, func(b backends.Backend) error {
		return errors.Join(b.Describe(ctx, r.ID, nil), unstamp(ctx, b, r.ID))
	})
	if err != nil {
		m.log.Warn("the description of a volume that is gone was left", "volume", r.Name, "pool", r.Pool, "err", err)
	}
}
