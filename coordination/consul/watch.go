package consul

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/dvol/dvold/coordination"
)

// Of blocking queries.
const (
	watchTime = 60 * time.Second
	watchGap  = 50 * time.Millisecond // between two, for a prefix that never rests
	watchLate = 10 * time.Second      // the longest pause after an error
)

// query is a read that Consul may let wait for a change.
type query func(*api.Client, *api.QueryOptions) (*api.QueryMeta, error)

// poll waits until what read reads has another index than last, at most for
// wait, and returns the index to go on from, or ErrUnavailable. last 0 reads at
// once, within limit. Consul's rules: an index that goes backwards is none, and
// 0 is 1; an answer need not be a change.
func (c *client) poll(ctx context.Context, limit time.Duration, last uint64, wait time.Duration, read query) (index uint64, err error) {
	if last > 0 {
		limit = wait + wait/16 + readTime // Consul adds up to a sixteenth
	}
	var meta *api.QueryMeta
	if f := c.try(ctx, limit, func(consul *api.Client, q *api.QueryOptions) (err error) {
		if last > 0 {
			q.WaitIndex, q.WaitTime = last, wait
		}
		meta, err = read(consul, q)
		return err
	}); f != nil {
		return 0, fmt.Errorf("%w: %w", coordination.ErrUnavailable, f)
	}
	if meta.LastIndex < last {
		return 0, nil // read again at once
	}
	return max(meta.LastIndex, 1), nil
}

// Watch yields what List would return, now and after each change, until ctx
// ends or the Store is closed. Its first state is read consistently, the later
// ones as the leader has them. After an error it begins anew, at first soon,
// later every ten seconds.
//
// Consul wakes whoever watches a prefix with nothing below it for whatever is
// written elsewhere, and so each host for each change of any. Hence there is a
// mark below a prefix that ends in a slash: a key that is no record, and stays.
func (s *Store) Watch(ctx context.Context, prefix string) iter.Seq2[[]coordination.Record, error] {
	return func(yield func([]coordination.Record, error) bool) {
		ctx, cancel := s.within(ctx)
		defer cancel()
		var last uint64
		var seen []coordination.Record
		first, late := true, pause
		for ctx.Err() == nil {
			var pairs api.KVPairs
			index, err := s.client.poll(ctx, listTime, last, watchTime, func(consul *api.Client, q *api.QueryOptions) (meta *api.QueryMeta, err error) {
				q.RequireConsistent = last == 0
				pairs, meta, err = consul.KV().List(s.recordKey(prefix), q)
				return meta, err
			})
			if err == nil {
				err = s.permitted(ctx, len(pairs))
			}
			if err == nil && len(pairs) == 0 && strings.HasSuffix(prefix, "/") {
				err = s.mark(ctx, prefix)
			}
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				last, first = 0, true
				if !yield(nil, fmt.Errorf("watch %s: %w", prefix, err)) || !sleep(ctx, late) {
					return
				}
				late = min(2*late, watchLate)
				continue
			}
			late = pause
			records := s.records(pairs, prefix)
			if first || !slices.EqualFunc(records, seen, sameVersion) {
				// The caller may keep, and change, what it is given.
				seen = slices.Clone(records)
				if !yield(records, nil) {
					return
				}
			}
			first, last = false, index
			if !sleep(ctx, watchGap) {
				return
			}
		}
	}
}

// mark puts a key below prefix, unless it is there: the prefix itself, which is
// the key of no record.
func (s *Store) mark(ctx context.Context, prefix string) error {
	if f := s.client.try(ctx, readTime, func(consul *api.Client, q *api.QueryOptions) error {
		_, _, err := consul.KV().CAS(&api.KVPair{Key: s.recordKey(prefix)}, writing(q))
		return err
	}); f != nil {
		return fmt.Errorf("%w: %w", coordination.ErrUnavailable, f)
	}
	return nil
}

func sameVersion(a, b coordination.Record) bool { return a.Key == b.Key && a.Version == b.Version }
