package volumes

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/dvol/dvold/coordination"
)

// How long a start waits for the coordinator, and how long a host that was in the
// cluster gives each attempt to join again: a coordinator that has much to do, as
// when many hosts come at once, gets none done if all give up and begin anew. The
// pauses between attempts grow from joinPause, for it has the more to do.
const (
	joinTimeout   = 5 * time.Second
	rejoinTimeout = 15 * time.Second
	joinPause     = time.Second
	maxJoinPause  = 8 * time.Second
)

// session is this host's present one, or coordination.ErrSessionLost and
// ErrUnavailable with the reason why there is none.
func (m *Manager) session() (coordination.Session, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.current == nil {
		// Not %w: that another machine has the name is no conflict of what the caller writes.
		return nil, unavailablef("this host is not in the cluster: %v: %w", m.absent, coordination.ErrSessionLost)
	}
	return m.current, nil
}

// errRival means that another machine is in the cluster as this one.
var errRival = errors.New("another machine claims to be this host")

// rival returns errRival if a machine with this host's ID is live under another
// name, or, once this one was in the cluster, under the same name after another
// boot: then one of them is a copy of the other, and if they took each other's
// place all the time, neither would get anything done.
func (m *Manager) rival(ctx context.Context) error {
	hosts, err := m.coord.Hosts(ctx)
	if err != nil {
		return err
	}
	m.mu.RLock()
	again := m.joined
	m.mu.RUnlock()
	for _, h := range hosts {
		if !h.Live || h.ID != m.me.ID || h.Name == m.me.Name && (h.Boot == m.me.Boot || !again) {
			continue
		}
		return fmt.Errorf("%w: host %q (boot %s) has its ID: if this machine is a copy of that one, stop its dvold, remove %s/host.json, and give it a name of its own", errRival, h.Name, h.Boot, m.cfg.StateDir)
	}
	return nil
}

// join enters the cluster, within limit.
func (m *Manager) join(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var session coordination.Session
	err := m.rival(ctx)
	if err == nil {
		session, err = m.coord.Join(ctx, m.me)
	}
	m.mu.Lock()
	m.current, m.absent, m.joined = session, err, m.joined || err == nil
	clear(m.holdings) // read anew
	m.mu.Unlock()
	if err != nil {
		return fmt.Errorf("join the cluster as %q: %w", m.cfg.Host, unavailable(err))
	}
	m.unfinished.Store(true)
	m.fenced.Store(true)
	m.turnLeft.Store(true)
	m.later(&m.unsettled)
	if err := m.keepStay(session.Incarnation()); err != nil {
		m.log.Error("a reboot will not prove that this host let go of its volumes", "err", err)
	}
	if err := m.check(ctx); err != nil {
		return m.lost(err)
	}
	m.calls.Add(1)
	go func() {
		defer m.calls.Done()
		m.settleOwners(session)
	}()
	return nil
}

// enter is the first join. Without an answer the host starts alone and goes on
// trying; that another machine has its name, or that the records are another
// cluster's, is for an operator to mend first.
func (m *Manager) enter(ctx context.Context) error {
	err := m.join(ctx, joinTimeout)
	doubt := m.reach.doubted()
	switch {
	case errors.Is(doubt, errForeign):
		return doubt
	case err == nil:
		return nil
	case !errors.Is(err, ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded):
		return err
	}
	m.lost(fmt.Errorf("%w: %w", err, coordination.ErrUnavailable))
	return nil
}

// stay keeps this host in the cluster: when its session has ended, it joins
// again. It also keeps the cluster's clock going.
func (m *Manager) stay() {
	defer m.calls.Done()
	var last uint64
	var said string // of failures to join
	pause := joinPause
	tick := time.NewTicker(tickInterval)
	defer tick.Stop()
	for m.background.Err() == nil {
		session, err := m.session()
		if err != nil {
			m.pause(apart(pause))
			pause = min(2*pause, maxJoinPause)
			err := m.join(m.background, rejoinTimeout)
			if err != nil && err.Error() != said && m.background.Err() == nil {
				m.log.Warn("not in the cluster: volumes that are known go on, nothing can be created or removed", "err", err)
				said = err.Error()
			}
			continue
		}
		select {
		case <-m.background.Done():
		case <-session.Context().Done():
			cause := context.Cause(session.Context())
			m.log.Warn("this host's session has ended", "err", cause)
			said = ""
			m.mu.Lock()
			m.current, m.absent = nil, cause
			m.mu.Unlock()
			pause = joinPause
			if err := m.join(m.background, rejoinTimeout); err == nil {
				m.answered()
				m.poke()
			}
		case <-tick.C:
			ctx, cancel := context.WithTimeout(m.background, 4*patience)
			if last, err = m.tick(ctx, last); err != nil {
				m.log.Debug("the cluster's clock was not seen to", "err", err)
			}
			cancel()
		}
	}
}

// apart is about d: many hosts that do the same at one moment do the next thing at
// different ones.
func apart(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// pause waits, unless the Manager is closed first.
func (m *Manager) pause(d time.Duration) {
	select {
	case <-m.background.Done():
	case <-time.After(d):
	}
}
