package volumes

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/sys/mountinfo"

	"github.com/dvol/dvold/internal/host"
)

// The sweeper does in the background what calls could not, or must not wait
// for. Each round looks at this host's mounts; the trash and interrupted
// creates are looked at when something asks for it, and otherwise seldom.
const (
	mountInterval = 5 * time.Second
	trashInterval = time.Minute // times the number of hosts, who share the work,
	maxTrashPause = time.Hour   // but at most this
	knownInterval = 10 * time.Minute
	sweepTimeout  = 30 * time.Second // of one volume's unmount
	sweepChunk    = 16               // volumes that are unmounted at a time
	purgeTimeout  = 10 * time.Minute // of one volume's data; the next round goes on
)

func (m *Manager) sweep() {
	defer m.calls.Done()
	ctx := m.background
	var purging busy
	var next, nextPurge, nextKnown time.Time
	tick := time.NewTicker(mountInterval)
	defer tick.Stop()
	for {
		m.sweepMounts(ctx)
		if err := m.known.flush(); err != nil {
			m.log.Warn("what this host knows was not kept", "err", err)
		}
		now := time.Now()
		if !now.Before(next) && m.reach.err() == nil {
			next = now.Add(m.sweepRecords(ctx))
		}
		// Not whenever something asks for a look: the trash may be long.
		if (m.purgeable.Load() || !now.Before(nextPurge)) && m.mended() && m.reach.err() == nil {
			m.purgeable.Store(false)
			nextPurge = now.Add(m.purgeAll(ctx, now, &purging))
		}
		if !now.Before(nextKnown) && m.reach.err() == nil {
			if err := m.refresh(ctx); err != nil {
				m.log.Debug("volumes were not asked after", "err", err)
			}
			nextKnown = now.Add(knownInterval)
		}
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
			next = time.Time{}
		case <-tick.C:
		}
	}
}

// later has the sweeper do now what one of its flags says.
func (m *Manager) later(what *atomic.Bool) {
	what.Store(true)
	m.poke()
}

// poke asks the sweeper to look at everything now.
func (m *Manager) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// sweepMounts unmounts what has no use left by an engine that lives, unless a
// container lives on. When an engine ends that may be everything at once, so
// the looking for containers is shared and the number of threads bounded.
func (m *Manager) sweepMounts(ctx context.Context) {
	for some := range slices.Chunk(m.idle(), sweepChunk) {
		free, err := m.free(ctx, some)
		if err != nil {
			m.log.Warn("idle mounts were not looked at", "err", err)
			return
		}
		var wg sync.WaitGroup
		for _, e := range free {
			release, ok := m.locks.try(e.Name)
			if !ok {
				continue // a call is under way, perhaps one that hangs
			}
			wg.Go(func() { m.settle(ctx, e, release) })
		}
		wg.Wait()
		if ctx.Err() != nil {
			return
		}
	}
}

// free returns those entries that no process in another mount namespace has.
func (m *Manager) free(ctx context.Context, entries []entry) ([]entry, error) {
	below, err := host.MountsBelow(m.mountDir())
	if err != nil {
		return nil, err
	}
	at := make(map[string]*mountinfo.Info)
	for _, info := range below {
		at[info.Mountpoint] = info
	}
	var free, mounted []entry
	var infos []*mountinfo.Info
	for _, e := range entries {
		if info := at[m.target(e.ID)]; info != nil {
			mounted, infos = append(mounted, e), append(infos, info)
		} else {
			free = append(free, e)
		}
	}
	users, err := host.OtherUsersOf(ctx, infos)
	if err != nil {
		return nil, err
	}
	for i, e := range mounted {
		if len(users[i]) == 0 {
			free = append(free, e)
		}
	}
	return free, nil
}

// idle lists the entries without a use by an engine that lives.
func (m *Manager) idle() []entry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var idle []entry
	for _, e := range m.mounts {
		if len(e.live().Uses) == 0 {
			idle = append(idle, e)
		}
	}
	return idle
}

func (e entry) live() entry { return e.keep(func(u use) bool { return !gone(u.Engine) }) }

// settle unmounts a volume that was found free, unless that has changed.
func (m *Manager) settle(ctx context.Context, found entry, release func()) {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	_, err := callLocked(ctx, m, found.Name, release, func(ctx context.Context) (struct{}, func(context.Context), error) {
		e, ok := m.entry(found.Name)
		if !ok || e.ID != found.ID || len(e.live().Uses) > 0 {
			return struct{}{}, nil, nil
		}
		return struct{}{}, nil, m.dismount(ctx, e)
	})
	if err != nil {
		m.log.Debug("volume is still mounted", "volume", found.Name, "pool", found.Pool, "err", err)
	}
}

// sweepRecords mends this host's records and takes back interrupted calls. It
// returns how long it need not be done again.
func (m *Manager) sweepRecords(ctx context.Context) time.Duration {
	if m.unsettled.Swap(false) {
		if err := m.reconcile(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("the records may not say what this host holds", "err", err)
			m.unsettled.Store(true)
		}
	}
	if m.fenced.Swap(false) {
		if err := m.unfence(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("this host is not unfenced yet", "err", err)
			m.fenced.Store(true)
		}
	}
	if m.turnLeft.Swap(false) {
		if err := m.sweepTurns(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("the records say that this host is at work", "err", err)
			m.turnLeft.Store(true)
		}
	}
	if m.unfinished.Swap(false) {
		if err := m.resume(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("interrupted calls were not undone yet", "err", err)
			m.unfinished.Store(true)
		}
	}
	if !m.mended() || m.fenced.Load() {
		return mountInterval
	}
	return maxTrashPause
}

// mended tells whether this host's records need no mending.
func (m *Manager) mended() bool {
	return !m.unsettled.Load() && !m.unfinished.Load() && !m.turnLeft.Load()
}

// purgeAll starts to purge what is due, each pool by itself: one may hang. It
// returns how long it need not be done again: any host may purge what is due in a
// pool that all have, so the more there are, the less each looks.
func (m *Manager) purgeAll(ctx context.Context, now time.Time, purging *busy) time.Duration {
	due, err := m.due(ctx, now)
	if ctx.Err() != nil {
		return 0
	}
	if err != nil {
		m.log.Warn("trash was not looked at", "err", err)
		return trashInterval
	}
	for pool, ids := range due {
		if !purging.begin(pool) {
			continue
		}
		m.calls.Add(1)
		go func() {
			defer m.calls.Done()
			defer purging.end(pool)
			for _, id := range ids {
				m.purgeDue(ctx, now, pool, id)
			}
		}()
	}
	hosts, err := m.coord.Hosts(ctx)
	if err != nil {
		return trashInterval
	}
	return min(trashInterval*time.Duration(max(len(hosts), 1)), maxTrashPause)
}

func (m *Manager) purgeDue(ctx context.Context, now time.Time, pool, id string) {
	release, ok := m.locks.try(trashKey(id))
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, purgeTimeout)
	defer cancel()
	_, err := callLocked(ctx, m, trashKey(id), release, func(ctx context.Context) (struct{}, func(context.Context), error) {
		r, err := m.load(ctx, trashKey(id))
		if errors.Is(err, ErrNotFound) || err == nil && !r.due(now) {
			return struct{}{}, nil, nil // purged or restored since
		}
		if err == nil {
			err = m.purge(ctx, r)
		}
		return struct{}{}, nil, err
	})
	if err != nil && ctx.Err() == nil {
		m.log.Warn("volume will be purged later", "id", id, "pool", pool, "err", err)
	}
}

// busy is a set of names, safe for concurrent use. The zero value is empty.
type busy struct {
	names sync.Map
}

func (b *busy) begin(name string) bool {
	_, taken := b.names.LoadOrStore(name, nil)
	return !taken
}

func (b *busy) end(name string) { b.names.Delete(name) }
