package embedded

import (
	"context"
	"iter"
	"strings"

	"github.com/dvol/dvold/coordination"
)

// watcher waits for changes of keys that begin with prefix.
type watcher struct {
	prefix  string
	changed chan struct{} // of capacity 1: full while there is one to look at
}

// Watch yields what List would return, now and after each change, until ctx
// ends or the Store is closed. It runs in the caller's goroutine and holds no
// lock while the caller looks at what it yielded.
func (s *Store) Watch(ctx context.Context, prefix string) iter.Seq2[[]coordination.Record, error] {
	return func(yield func([]coordination.Record, error) bool) {
		w := &watcher{prefix: prefix, changed: make(chan struct{}, 1)}
		s.mu.Lock()
		s.watchers[w] = struct{}{}
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.watchers, w)
		}()
		for {
			records, err := s.List(ctx, prefix)
			if ctx.Err() != nil || !yield(records, err) {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-s.closed:
				return
			case <-w.changed:
			}
		}
	}
}

// notify wakes the watchers of keys.
func (s *Store) notify(keys []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watchers {
		for _, key := range keys {
			if !strings.HasPrefix(key, w.prefix) {
				continue
			}
			select {
			case w.changed <- struct{}{}:
			default: // it has not looked yet
			}
			break
		}
	}
}
