package consul

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/dvol/dvold/coordination"
)

// pair is a key as Consul shows it.
type pair struct {
	Key         string
	Value       []byte
	Flags       uint64
	ModifyIndex uint64
	Session     string
}

// Keys believes a server which heard of the leader that lately, unless this
// Store committed within recent what the server does not know yet. A server
// that is further behind and still hears of its leader is ill.
const (
	freshContact = time.Second
	recent       = 30 * time.Second
)

// read is a read of key, or of all that begins with it, with what query says.
func read(key string, limit time.Duration, query ...string) request {
	r := request{method: http.MethodGet, path: "/v1/kv/" + key, query: url.Values{}, limit: limit, accept: []int{http.StatusNotFound}}
	for _, q := range query {
		r.query.Set(q, "")
	}
	return r
}

// pair reads the key, consistently. There is none if ModifyIndex is 0.
func (s *Store) pair(ctx context.Context, key string) (pair, error) {
	var pairs []pair
	if _, err := s.client.get(ctx, read(key, readTime, "consistent"), &pairs); err != nil {
		return pair{}, err
	}
	if len(pairs) != 1 || pairs[0].Key != key { // another, if the path was cleaned on the way
		return pair{}, nil
	}
	return pairs[0], nil
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
	var pairs []pair
	_, err := s.client.get(ctx, read(s.recordKey(prefix), listTime, "recurse", "consistent"), &pairs)
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
	s.mu.Lock()
	needed := s.committed
	if s.now()-s.at > recent {
		needed = 0
	}
	s.mu.Unlock()
	var found []string
	got, err := s.client.get(ctx, read(s.recordKey(prefix), listTime, "keys", "stale"), &found)
	// The index is that of the last change below prefix, also of a deletion.
	// If our commit was elsewhere, it tells nothing, and we ask once more.
	if err == nil && (got.contact > freshContact || got.index < needed) {
		found = nil
		_, err = s.client.get(ctx, read(s.recordKey(prefix), listTime, "keys", "consistent"), &found)
	}
	if err == nil {
		err = s.permitted(ctx, len(found))
	}
	if err != nil {
		return nil, fmt.Errorf("list keys %s: %w", prefix, err)
	}
	var keys []string
	for _, key := range found {
		if strings.HasPrefix(key, s.recordKey(prefix)) {
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

func (s *Store) record(p pair) coordination.Record {
	return coordination.Record{Key: strings.TrimPrefix(p.Key, s.recordKey("")), Value: p.Value, Version: p.ModifyIndex}
}

// records are pairs that begin with prefix, as records in order.
func (s *Store) records(pairs []pair, prefix string) []coordination.Record {
	var records []coordination.Record
	for _, p := range pairs {
		if strings.HasPrefix(p.Key, s.recordKey(prefix)) {
			records = append(records, s.record(p))
		}
	}
	slices.SortFunc(records, func(a, b coordination.Record) int { return cmp.Compare(a.Key, b.Key) })
	return records
}
