package volumes

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/dvol/dvold/coordination"
)

// What a caller waits for the coordinator at most where this host's own
// knowledge would do, and how often one that is away is looked for: the less, the
// longer it is, for all hosts look.
const (
	patience      = time.Second
	probeInterval = 500 * time.Millisecond
	maxProbePause = 5 * time.Second
	probeFactor   = 10 // of the time that it is away
)

// reach tells whether the coordinator can be asked, and believed. While it
// can't, nobody waits for it: what this host knows must do, or the call fails
// at once and says why. The zero value is ready.
type reach struct {
	mu    sync.RWMutex // guards the fields below
	away  error        // it does not answer
	since time.Time    // of away
	doubt error        // it answers, and must not be believed: see check
	newer error        // it is written by newer dvolds: see check
}

// err is nil if the coordinator can be asked and believed, or ErrUnavailable
// with the reason.
func (r *reach) err() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	switch {
	case r.doubt != nil:
		return notNow{r.doubt}
	case r.away != nil:
		return unavailablef("no answer from the coordinator since %s: %w", r.since.Local().Format(time.DateTime), r.away)
	}
	return nil
}

// doubted is why the coordinator must not be believed, or nil.
func (r *reach) doubted() error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.doubt
}

// writable is err for those who change records.
func (r *reach) writable() error {
	r.mu.RLock()
	newer := r.newer
	r.mu.RUnlock()
	if newer != nil {
		return notNow{newer}
	}
	return r.err()
}

// lost notes that the coordinator did not answer, if err says so, and starts
// to look for it. It returns err as ErrUnavailable.
func (m *Manager) lost(err error) error {
	silent := errors.Is(err, coordination.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
	if !silent {
		return unavailable(err)
	}
	r := &m.reach
	r.mu.Lock()
	first := r.away == nil
	if first {
		r.away, r.since = err, time.Now()
	}
	r.mu.Unlock()
	if first && m.background.Err() == nil {
		m.log.Warn("the coordinator does not answer: shared volumes go on, nothing can be created or removed", "err", err)
		m.calls.Add(1)
		go m.probe()
	}
	return notNow{err}
}

// probe looks for a coordinator that is away until it answers.
func (m *Manager) probe() {
	defer m.calls.Done()
	for began := time.Now(); ; {
		m.pause(apart(min(max(time.Since(began)/probeFactor, probeInterval), maxProbePause)))
		if m.background.Err() != nil {
			return
		}
		ctx, cancel := context.WithTimeout(m.background, 4*patience)
		err := m.check(ctx)
		cancel()
		if err == nil {
			m.answered()
			return
		}
	}
}

// answered notes that the coordinator answers.
func (m *Manager) answered() {
	r := &m.reach
	r.mu.Lock()
	was, since := r.away, r.since
	r.away = nil
	r.mu.Unlock()
	if was != nil {
		m.log.Info("the coordinator answers again", "after", time.Since(since).Round(time.Millisecond))
		m.later(&m.unsettled)
	}
}

// ask has the coordinator asked, with the patience of those who have something
// to fall back on. Its error is ErrUnavailable if there was no answer to believe.
func ask[T any](ctx context.Context, m *Manager, question func(context.Context) (T, error)) (T, error) {
	var none T
	if err := m.reach.err(); err != nil {
		return none, err
	}
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	value, err := question(short)
	if err != nil && ctx.Err() == nil && (errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)) {
		return none, m.lost(err)
	}
	return value, err
}
