package volumes

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/dvol/dvold/coordination"
)

// poolRecord is the record at pools/<pool>/<host> that a host has a pool.
type poolRecord struct {
	Schema   int    `json:"schema"`
	Type     string `json:"type"`
	Location string `json:"location"`
	Shared   bool   `json:"shared"`
	TrashTTL string `json:"trash_ttl,omitempty"` // a duration; "" if an older dvold has written it
}

func poolKey(pool, host string) string { return "pools/" + pool + "/" + host }

// PoolInfo describes a pool of the cluster.
type PoolInfo struct {
	Name     string   `json:"name"`
	Type     string   `json:"type"`
	Location string   `json:"location"`            // on this host, or where it is
	Shared   bool     `json:"shared"`              // it is the same place on every host that has it
	ThisHost bool     `json:"this_host"`           // this host has it
	Default  bool     `json:"default"`             // here
	Hosts    []string `json:"hosts"`               // that have it, whether live or not
	TrashTTL string   `json:"trash_ttl,omitempty"` // here; a duration
	Silent   string   `json:"silent,omitempty"`    // here; a duration: so long has its storage not answered; empty if it does or nothing is known
}

// ClusterPools lists the pools that any host has, by name. While the
// coordinator is away it lists this host's.
func (m *Manager) ClusterPools(ctx context.Context) ([]PoolInfo, error) {
	all := make(map[string]*PoolInfo)
	for _, p := range m.cfg.Pools {
		all[p.Name] = &PoolInfo{
			Name: p.Name, Type: p.Type, Location: p.Location, Shared: p.Shared, ThisHost: true,
			Default: p.Name == m.cfg.DefaultPool, TrashTTL: p.TrashTTL.String(), Hosts: []string{m.cfg.Host},
		}
		if silent := p.silent(); silent > 0 {
			all[p.Name].Silent = silent.Round(time.Second).String()
		}
	}
	stored, err := ask(ctx, m, func(ctx context.Context) ([]coordination.Record, error) {
		stored, err := m.coord.List(ctx, "pools/")
		return stored, unavailable(err)
	})
	if err != nil && m.reach.err() == nil {
		return nil, fmt.Errorf("list pools: %w", err)
	}
	for _, s := range stored {
		name, host := path.Base(path.Dir(s.Key)), path.Base(s.Key)
		var r poolRecord
		if err := unmarshal("record "+s.Key, s.Value, recordSchema, &r); err != nil {
			m.log.Warn("pool was left out of a list", "err", err)
			continue
		}
		if all[name] == nil {
			all[name] = &PoolInfo{Name: name, Type: r.Type, Location: r.Location, Shared: r.Shared}
		}
		if host != m.cfg.Host {
			all[name].Hosts = append(all[name].Hosts, host)
		}
	}
	list := make([]PoolInfo, 0, len(all))
	for _, p := range all {
		slices.Sort(p.Hosts)
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b PoolInfo) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// hostsOf lists the hosts that have a pool, whether live or not.
func (m *Manager) hostsOf(ctx context.Context, pool string) ([]string, error) {
	return ask(ctx, m, func(ctx context.Context) ([]string, error) {
		keys, err := m.coord.Keys(ctx, poolKey(pool, ""))
		for i, key := range keys {
			keys[i] = path.Base(key)
		}
		return keys, unavailable(err)
	})
}

// showPools has the records say which pools this host has.
func (m *Manager) showPools(ctx context.Context) error {
	written, err := m.poolsOf(ctx, m.cfg.Host)
	if err != nil {
		return err
	}
	var ops []coordination.Op
	for _, p := range m.cfg.Pools {
		key := poolKey(p.Name, m.cfg.Host)
		value, err := marshal(poolRecord{Schema: recordSchema, Type: p.Type, Location: p.Location, Shared: p.Shared, TrashTTL: p.TrashTTL.String()}, nil)
		if err != nil {
			return err
		}
		if old := written[key]; !bytes.Equal(old.Value, value) {
			ops = append(ops, coordination.Put(coordination.Record{Key: key, Value: value, Version: old.Version}))
		}
		delete(written, key)
	}
	for _, old := range written {
		ops = append(ops, coordination.Delete(old))
	}
	return m.commitAll(ctx, ops)
}

// trashTTL is how long a removed volume is kept: as its pool says here, or else, where this
// host does not have its data, the longest that a host says which does. It is asked for at the
// removal, so that what was promised then stays true.
func (m *Manager) trashTTL(ctx context.Context, r record) (time.Duration, error) {
	if p := m.pools[r.Pool]; p != nil && m.ours(r) {
		return p.TrashTTL, nil
	}
	stored, err := m.coord.List(ctx, poolKey(r.Pool, ""))
	if err != nil {
		return 0, unavailable(err)
	}
	ttls := []time.Duration{}
	for _, s := range stored {
		if r.Home != nil && path.Base(s.Key) != r.Home.Host {
			continue
		}
		ttl := defaultTrashTTL
		var p poolRecord
		if err := unmarshal("record "+s.Key, s.Value, recordSchema, &p); err == nil {
			if says, err := time.ParseDuration(p.TrashTTL); err == nil {
				ttl = says
			}
		}
		ttls = append(ttls, ttl)
	}
	if len(ttls) == 0 {
		return defaultTrashTTL, nil
	}
	return slices.Max(ttls), nil
}

// defaultTrashTTL is that of a pool of which no host says.
const defaultTrashTTL = 24 * time.Hour

// hidePools has the records forget which pools a host has.
func (m *Manager) hidePools(ctx context.Context, host string) error {
	written, err := m.poolsOf(ctx, host)
	if err != nil {
		return err
	}
	var ops []coordination.Op
	for _, old := range written {
		ops = append(ops, coordination.Delete(old))
	}
	return m.commitAll(ctx, ops)
}

// poolsOf returns the records of a host's pools by key.
func (m *Manager) poolsOf(ctx context.Context, host string) (map[string]coordination.Record, error) {
	keys, err := m.coord.Keys(ctx, "pools/")
	if err != nil {
		return nil, unavailable(err)
	}
	records := make(map[string]coordination.Record)
	for _, key := range keys {
		if path.Base(key) != host {
			continue
		}
		stored, err := m.stored(ctx, key)
		if err != nil {
			return nil, err
		}
		if stored.Version != 0 {
			records[key] = stored
		}
	}
	return records, nil
}

// commitAll commits operations that need not happen together.
func (m *Manager) commitAll(ctx context.Context, ops []coordination.Op) error {
	for some := range slices.Chunk(ops, coordination.MaxOps) {
		if _, err := m.commit(ctx, some...); err != nil {
			return err
		}
	}
	return nil
}
