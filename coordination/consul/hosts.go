package consul

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/dvol/dvold/coordination"
)

// hostSchema numbers the layout of a hostEntry. A newer one is shown to nobody
// and not written over.
const hostSchema = 1

// hostEntry is the value of a host's key. It stays for ever, for Incarnation.
type hostEntry struct {
	Schema      int       `json:"schema"`
	ID          string    `json:"id"`
	Boot        string    `json:"boot"`
	Incarnation uint64    `json:"incarnation"`
	Since       time.Time `json:"since"`
	Forgotten   bool      `json:"forgotten,omitempty"`
	Node        string    `json:"node,omitempty"` // of the machine in Consul's catalog, if its agent told
}

// entryOf reads the value of a host's key.
func entryOf(p *api.KVPair) (hostEntry, error) {
	var entry hostEntry
	if err := json.Unmarshal(p.Value, &entry); err != nil {
		return hostEntry{}, fmt.Errorf("%s: %w", p.Key, err)
	}
	if entry.Schema != hostSchema {
		return hostEntry{}, fmt.Errorf("%s: has schema %d, this dvold knows %d", p.Key, entry.Schema, hostSchema)
	}
	return entry, nil
}

func (e hostEntry) encode() []byte {
	value, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings and numbers, and a time of this millennium
	}
	return value
}

// Hosts lists the hosts that ever joined and were not forgotten, by name. A
// host is live while its key is locked. It reads consistently: all that ended
// before it began, by whatever it was ended, is not live in it. Only Suspect
// may be a moment old.
func (s *Store) Hosts(ctx context.Context) ([]coordination.Host, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	var pairs api.KVPairs
	err := s.client.repeat(ctx, listTime, func(consul *api.Client, q *api.QueryOptions) (err error) {
		q.RequireConsistent = true
		pairs, _, err = consul.KV().List(s.hostKey(""), q)
		return err
	})
	if err == nil {
		err = s.permitted(ctx, len(pairs))
	}
	if err != nil {
		return nil, fmt.Errorf("list hosts: %w", err)
	}
	var hosts []coordination.Host
	nodes := make(map[string]string) // by host
	for _, p := range pairs {
		h, node, err := s.hostOf(p)
		if err != nil {
			s.log.WarnContext(ctx, "a host is not shown", "error", err)
			continue
		}
		if h.Name == "" {
			continue
		}
		if node != "" {
			nodes[h.Name] = node
		}
		hosts = append(hosts, h)
	}
	s.suspect(ctx, hosts, nodes)
	slices.SortFunc(hosts, func(a, b coordination.Host) int { return cmp.Compare(a.Name, b.Name) })
	return hosts, nil
}

// Host is Hosts for one of them.
func (s *Store) Host(ctx context.Context, name string) (coordination.Host, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	found := &api.KVPair{}
	var err error
	if isHostName(name) {
		found, err = s.pair(ctx, s.hostKey(name))
	}
	if err != nil {
		return coordination.Host{}, fmt.Errorf("get host %s: %w", name, err)
	}
	var h coordination.Host
	var node string
	if found.ModifyIndex != 0 {
		if h, node, err = s.hostOf(found); err != nil {
			s.log.WarnContext(ctx, "a host is not shown", "error", err)
		}
	}
	if h.Name == "" {
		return h, fmt.Errorf("get host %s: %w", name, coordination.ErrNotFound)
	}
	one := []coordination.Host{h}
	if node != "" {
		s.suspect(ctx, one, map[string]string{name: node})
	}
	return one[0], nil
}

// hostOf reads the entry of a host, and the node that it names; a host without a
// name was forgotten.
func (s *Store) hostOf(p *api.KVPair) (h coordination.Host, node string, err error) {
	entry, err := entryOf(p)
	if err != nil || entry.Forgotten {
		return h, "", err
	}
	return coordination.Host{
		Name:        strings.TrimPrefix(p.Key, s.hostKey("")),
		ID:          entry.ID,
		Boot:        entry.Boot,
		Incarnation: entry.Incarnation,
		Live:        p.Session != "",
		Since:       entry.Since,
		Version:     p.ModifyIndex,
	}, entry.Node, nil
}

// isHostName tells whether a host can have that name: one word.
func isHostName(name string) bool {
	return !strings.Contains(name, "/") && coordination.Validate([]coordination.Op{coordination.Check(coordination.Record{Key: name})}) == nil
}

// Forget marks the entry of a host that is not live, in one transaction that
// checks all of this.
func (e *session) Forget(ctx context.Context, h coordination.Host) error {
	s := e.store
	if err := e.live(); err != nil {
		return fmt.Errorf("forget host %s: %w", h.Name, err)
	}
	found, err := s.pair(ctx, s.hostKey(h.Name))
	if err != nil {
		return fmt.Errorf("forget host %s: %w", h.Name, err)
	}
	if found.ModifyIndex == 0 || found.ModifyIndex != h.Version || found.Session != "" {
		return fmt.Errorf("forget host %s: %w", h.Name, coordination.ErrConflict)
	}
	entry, err := entryOf(found)
	if err != nil {
		return fmt.Errorf("forget host %s: %w", h.Name, err)
	}
	entry.Forgotten = true
	mark := newMark()
	if _, err = e.apply(ctx, mark, api.KVTxnOps{
		{Verb: api.KVCheckSession, Key: found.Key}, // of nobody
		{Verb: api.KVCAS, Key: found.Key, Value: entry.encode(), Flags: mark, Index: found.ModifyIndex},
		{Verb: api.KVDeleteTree, Key: s.commitKey(h.Name, "")},
	}); err != nil {
		return fmt.Errorf("forget host %s: %w", h.Name, err)
	}
	s.log.InfoContext(ctx, "forgot a host", "host", h.Name, "incarnation", entry.Incarnation)
	return nil
}
