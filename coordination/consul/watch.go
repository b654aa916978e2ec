package consul

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/dvol/dvold/coordination"
)

// Of blocking queries.
const (
	watchTime = 60 * time.Second
	watchGap  = 50 * time.Millisecond // between two, for a prefix that never rests
	watchLate = 10 * time.Second      // the longest pause after an error
)

// poll waits until what r reads has another index than last, at most for wait,
// and returns it with the index to go on from, or ErrUnavailable. last 0 reads at once. Consul's
// rules: an index that goes backwards is none, and 0 is 1; an answer need not
// be a change.
func (c *client) poll(ctx context.Context, r request, last uint64, wait time.Duration) ([]pair, uint64, error) {
	if last > 0 {
		r.query.Set("index", strconv.FormatUint(last, 10))
		r.query.Set("wait", strconv.FormatInt(wait.Milliseconds(), 10)+"ms")
		r.limit = wait + wait/16 + readTime // Consul adds up to a sixteenth
	}
	got, f := c.try(ctx, r)
	if f != nil {
		return nil, 0, fmt.Errorf("%w: %w", coordination.ErrUnavailable, f)
	}
	var pairs []pair
	if got.status == http.StatusOK {
		if err := json.Unmarshal(got.body, &pairs); err != nil {
			return nil, 0, fmt.Errorf("%w: read what Consul answers: %w", coordination.ErrUnavailable, err)
		}
	}
	if got.index < last {
		return pairs, 0, nil // read again at once
	}
	return pairs, max(got.index, 1), nil
}

// Watch yields what List would return, now and after each change, until ctx
// ends or the Store is closed. Its first state is read consistently, the later
// ones as the leader has them. After an error it begins anew, at first soon,
// later every ten seconds.
func (s *Store) Watch(ctx context.Context, prefix string) iter.Seq2[[]coordination.Record, error] {
	return func(yield func([]coordination.Record, error) bool) {
		ctx, cancel := s.within(ctx)
		defer cancel()
		var last uint64
		var seen []coordination.Record
		first, late := true, pause
		for ctx.Err() == nil {
			limit := listTime
			r := read(s.recordKey(prefix), limit, "recurse")
			if last == 0 {
				r.query.Set("consistent", "")
			}
			pairs, index, err := s.client.poll(ctx, r, last, watchTime)
			if err == nil {
				err = s.permitted(ctx, len(pairs))
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

func sameVersion(a, b coordination.Record) bool { return a.Key == b.Key && a.Version == b.Version }
