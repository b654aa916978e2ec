package volumes

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/dvol/dvold/coordination"
)

// How old a list of names may be: a multiple of what fetching it took, so that
// hosts that are asked all the time cost the coordinator little, and at most
// maxNamesAge.
const (
	namesAgeFactor = 20
	maxNamesAge    = 10 * time.Second
)

// How long is waited for a list of names, and after what time it is looked
// whether the coordinator is there at all.
const (
	namesPatience = 10 * time.Second
	namesDoubt    = patience / 2
)

// names keeps the last list of names. The zero value is ready.
type names struct {
	fetch sync.Mutex // one at a time

	mu    sync.Mutex // guards the fields below
	last  []string
	until time.Time
	turn  int // counts changes by this host
}

// changed has the next list fetched anew.
func (n *names) changed() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.until, n.turn = time.Time{}, n.turn+1
}

// list returns the last list, and whether it may still be used.
func (n *names) list() (last []string, turn int, fresh bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last, n.turn, time.Now().Before(n.until)
}

func (n *names) set(list []string, turn int, took time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.last = list
	if turn == n.turn {
		n.until = time.Now().Add(min(namesAgeFactor*took, maxNamesAge))
	}
}

// Names lists the names of all volumes, ordered. What other hosts did in the
// last seconds may be missing. While the coordinator is away it is what this
// host knows, the last list included. It asks no storage.
func (m *Manager) Names(ctx context.Context) ([]string, error) {
	n := &m.names
	if last, _, fresh := n.list(); fresh && m.reach.err() == nil {
		return last, nil
	}
	n.fetch.Lock()
	defer n.fetch.Unlock()
	last, turn, fresh := n.list()
	if fresh && m.reach.err() == nil { // fetched while we waited
		return last, nil
	}
	begin := time.Now()
	keys, err := m.volumeKeys(ctx)
	if err == nil {
		list := make([]string, len(keys))
		for i, key := range keys {
			list[i] = path.Base(key)
		}
		slices.Sort(list)
		n.set(list, turn, time.Since(begin))
		return list, nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	list := slices.Clone(last)
	if err := m.known.all(func(name string, _ time.Time) { list = append(list, name) }); err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// volumeKeys lists the keys of all volumes. On a busy machine a list of very
// many takes longer than the coordinator may be silent; so if it does not come
// soon, a small read tells whether that is why.
func (m *Manager) volumeKeys(ctx context.Context) ([]string, error) {
	if err := m.reach.err(); err != nil {
		return nil, err
	}
	whole, cancel := context.WithTimeout(ctx, namesPatience)
	defer cancel()
	look := time.AfterFunc(namesDoubt, func() {
		_, err := ask(whole, m, func(ctx context.Context) (coordination.Record, error) {
			stored, err := m.coord.Get(ctx, clusterKey)
			return stored, unavailable(err)
		})
		if errors.Is(err, ErrUnavailable) {
			cancel()
		}
	})
	defer look.Stop()
	keys, err := m.coord.Keys(whole, "volumes/")
	if errors.Is(err, coordination.ErrUnavailable) && whole.Err() == nil {
		return nil, m.lost(err)
	}
	return keys, unavailable(err)
}
