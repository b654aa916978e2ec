package consul

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/dvol/dvold/coordination"
)

// Keys believes a server which heard of the leader that lately, unless this
// Store committed within recent what the server does not know yet. A server
// that is further behind and still hears of its leader is ill.
const (
	freshContact = time.Second
	recent       = 30 * time.Second
	justNow      = time.Second
)

// pair reads the key, consistently. There is none if ModifyIndex is 0.
func (s *Store) pair(ctx context.Context, key string) (found *api.KVPair, err error) {
	err = s.client.repeat(ctx, readTime, func(consul *api.Client, q *api.QueryOptions) (err error) {
		q.RequireConsistent = true
		found, _, err = consul.KV().Get(key, q)
		return err
	})
	if found == nil || found.Key != key { // another, if the path was cleaned on the way
		found = &api.KVPair{}
	}
	return found, err
}

// Get returns the record at key, or ErrNotFound. It reads consistently.
func (s *Store) Get(ctx context.Context, key string) (coordination.Record, error) {
	if coordination.Validate([]coordination.Op{coordination.Check(coordination.Record{Key: key})}) != nil {
		return coordination.Record{}, fmt.Errorf("get %s: %w", key, coordination.ErrNotFound)
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	found, err := s.pair(ctx, s.recordKey(key))
	if err == nil && found.ModifyIndex == 0 {
		err = coordination.ErrNotFound
	}
	if err != nil {
		return coordination.Record{}, fmt.Errorf("get %s: %w", key, err)
	}
	return s.record(found), nil
}

// List returns the records whose keys begin with prefix, ordered by key. It
// reads consistently.
func (s *Store) List(ctx context.Context, prefix string) ([]coordination.Record, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	var pairs api.KVPairs
	err := s.client.repeat(ctx, listTime, func(consul *api.Client, q *api.QueryOptions) (err error) {
		q.RequireConsistent = true
		pairs, _, err = consul.KV().List(s.recordKey(prefix), q)
		return err
	})
	if err == nil {
		err = s.permitted(ctx, len(pairs))
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	return s.records(pairs, prefix), nil
}

// Keys is List without the values. It reads what any server has, if that is
// fresh and has what this Store's sessions committed; else consistently.
func (s *Store) Keys(ctx context.Context, prefix string) ([]string, error) {
	ctx, cancel := s.within(ctx)
	defer cancel()
	needed := s.wroteBelow(prefix)
	age := s.now() - needed.at
	if age > recent {
		needed.version = 0
	}
	var found []string
	var meta *api.QueryMeta
	stale := needed.version == 0 || age > justNow // or the servers may not know it yet
	list := func(consul *api.Client, q *api.QueryOptions) (err error) {
		q.AllowStale, q.RequireConsistent = stale, !stale
		found, meta, err = consul.KV().Keys(s.recordKey(prefix), "", q)
		return err
	}
	err := s.client.repeat(ctx, listTime, list)
	// The index is that of the last change below prefix, also of a deletion. If
	// our commit was beside it, it tells nothing, and we ask once more.
	if err == nil && stale && (meta.LastContact > freshContact || meta.LastIndex < needed.version) {
		stale = false
		err = s.client.repeat(ctx, listTime, list)
	}
	if err == nil {
		err = s.permitted(ctx, len(found))
	}
	if err != nil {
		return nil, fmt.Errorf("list keys %s: %w", prefix, err)
	}
	var keys []string
	for _, key := range found {
		if s.isRecord(key, prefix) {
			keys = append(keys, strings.TrimPrefix(key, s.recordKey("")))
		}
	}
	slices.Sort(keys)
	return keys, nil
}

// permitted returns an error if a list is empty because the token may not read
// it: Consul leaves out of a list what it refuses to show by itself.
func (s *Store) permitted(ctx context.Context, listed int) error {
	if listed > 0 {
		return nil
	}
	_, err := s.pair(ctx, s.cfg.Prefix+"/records")
	return err
}

func (s *Store) record(p *api.KVPair) coordination.Record {
	return coordination.Record{Key: strings.TrimPrefix(p.Key, s.recordKey("")), Value: p.Value, Version: p.ModifyIndex}
}

// isRecord tells whether a key is that of a record that begins with prefix. One
// that ends in a slash is a mark: see Watch.
func (s *Store) isRecord(key, prefix string) bool {
	return strings.HasPrefix(key, s.recordKey(prefix)) && !strings.HasSuffix(key, "/")
}

// records are pairs that begin with prefix, as records in order.
func (s *Store) records(pairs api.KVPairs, prefix string) []coordination.Record {
	var records []coordination.Record
	for _, p := range pairs {
		if s.isRecord(p.Key, prefix) {
			records = append(records, s.record(p))
		}
	}
	slices.SortFunc(records, func(a, b coordination.Record) int { return cmp.Compare(a.Key, b.Key) })
	return records
}
