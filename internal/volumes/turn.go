package volumes

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/coordination"
)

// turn is the record at turns/<name> that a host is at work on something that
// only one may change at a time. It goes with the work, and does not outlive the
// stay in the cluster of the host.
type turn struct {
	Schema int       `json:"schema"`
	By     caller    `json:"by"`
	Since  time.Time `json:"since"`
	Op     string    `json:"op"`
}

const turnsPrefix = "turns/"

// inTurn has a fencer do something about f while no other host does, if it is one
// that needs that.
func (m *Manager) inTurn(ctx context.Context, session coordination.Session, fencer backends.Fencer, f backends.Fence, do func(context.Context, backends.Fence) error) error {
	serial, ok := fencer.(backends.Serial)
	if !ok {
		return do(ctx, f)
	}
	return m.serially(ctx, session, serial.Turn(f), func(ctx context.Context) error {
		m.step("turn: taken")
		return do(ctx, f)
	})
}

// serially has something done while no other host is at work on what that stands for, nor
// another call of this one. What is done ends with this host's session: whoever
// comes next does not wait for a host that is silent.
func (m *Manager) serially(ctx context.Context, session coordination.Session, what string, do func(context.Context) error) error {
	key := turnsPrefix + what
	release, err := m.turns.acquire(ctx, key)
	if err != nil {
		return unavailablef("this host is at work on %s already: %w", what, err)
	}
	defer release()
	mine, err := m.takeTurn(ctx, session, key)
	if err != nil {
		return err
	}
	defer m.endTurn(ctx, session, mine)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(session.Context(), func() { cancel(context.Cause(session.Context())) })
	defer stop()
	return do(ctx)
}

// takeTurn waits until no live host has the turn, and writes down that this one
// has it. The caller holds the lock of that name, so that a record of this host
// is a left-over.
func (m *Manager) takeTurn(ctx context.Context, session coordination.Session, key string) (coordination.Record, error) {
	me := caller{m.cfg.Host, session.Incarnation()}
	for {
		stored, err := m.stored(ctx, key)
		if err != nil {
			return stored, err
		}
		busy, by, err := m.turnIsTaken(ctx, stored)
		if err != nil {
			return stored, err
		}
		if !busy {
			value, err := marshal(turn{recordSchema, me, time.Now().UTC(), newOp()}, nil)
			if err != nil {
				return stored, err
			}
			written, err := m.commitIn(ctx, session, coordination.Put(coordination.Record{Key: key, Value: value, Version: stored.Version}))
			if err == nil {
				return written[0], nil
			}
			if ignoreConflict(err) != nil {
				return stored, err
			}
		}
		select {
		case <-ctx.Done():
			return stored, unavailablef("host %q is at work on %s: %w", by, key[len(turnsPrefix):], ctx.Err())
		case <-time.After(turnPause):
		}
	}
}

// turnPause is how often a host looks whether it is its turn.
const turnPause = 50 * time.Millisecond

func (m *Manager) turnIsTaken(ctx context.Context, stored coordination.Record) (taken bool, by string, err error) {
	if stored.Version == 0 {
		return false, "", nil
	}
	var t turn
	if err := unmarshal(fmt.Sprintf("record %q", stored.Key), stored.Value, recordSchema, &t); err != nil {
		return false, "", err
	}
	if t.By.Host == m.cfg.Host {
		return false, "", nil
	}
	taken, err = m.alive(ctx, t.By)
	return taken, t.By.Host, err
}

// endTurn deletes the record, even if ctx has ended.
func (m *Manager) endTurn(ctx context.Context, session coordination.Session, mine coordination.Record) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if _, err := m.commitIn(ctx, session, coordination.Delete(mine)); ignoreConflict(err) != nil {
		m.log.Warn("the records say for a while that this host is at work", "key", mine.Key, "err", err)
		m.later(&m.turnLeft)
	}
}

// sweepTurns deletes records of turns of this host that have ended.
func (m *Manager) sweepTurns(ctx context.Context) error {
	left, err := m.coord.List(ctx, turnsPrefix)
	if err != nil {
		return unavailable(err)
	}
	for _, stored := range left {
		var t turn
		if json.Unmarshal(stored.Value, &t) != nil || t.By.Host != m.cfg.Host {
			continue
		}
		release, ok := m.turns.try(stored.Key)
		if !ok { // it is at work
			continue
		}
		_, err := m.commit(ctx, coordination.Delete(stored))
		release()
		if ignoreConflict(err) != nil {
			return err
		}
	}
	return nil
}
