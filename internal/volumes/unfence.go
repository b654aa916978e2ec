package volumes

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/dvol/dvold/coordination"
)

// unfence undoes the fences against earlier stays of this host in the cluster,
// once it is clean: nothing is left of what they owned. Any sooner, the very
// clients that were cut off would go on writing. Never by timeout, and never on
// another's behalf.
func (m *Manager) unfence(ctx context.Context) error {
	session, err := m.session()
	if err != nil {
		return err
	}
	stored, err := m.coord.List(ctx, proofsAgainst(m.cfg.Host))
	if err != nil || len(stored) == 0 {
		return unavailable(err)
	}
	oldest, err := m.oldestClaim(ctx, session.Incarnation())
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range stored {
		p, err := decodeProof(s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		incarnation, err := incarnationOf(s.Key, m.cfg.Host)
		if err != nil || p.HostID != m.me.ID {
			continue // another machine's, which had this name
		}
		busy, err := m.takerIsAtIt(ctx, p)
		if err != nil {
			return err
		}
		if busy || incarnation >= oldest { // there is something left, or to come: look again
			m.fenced.Store(true)
			continue
		}
		if err := m.undoFence(ctx, session, s, p); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// unfenceTimeout bounds the undoing of one fence, which is tried again.
const unfenceTimeout = time.Minute

// takerIsAtIt tells whether a fence may be under way, which would come after it
// was undone.
func (m *Manager) takerIsAtIt(ctx context.Context, p proof) (bool, error) {
	if p.Taker == nil {
		return false, nil
	}
	return m.alive(ctx, *p.Taker)
}

// cleanFor returns nil once no fence against this host, in an earlier stay, is
// left to be undone that covers a volume which it is about to own: what it
// mounted would be cut off at once. It waits a while for that.
func (m *Manager) cleanFor(ctx context.Context, o owner) error {
	limit := time.Now().Add(settleTime)
	for {
		p, err := m.fencedFrom(ctx, o)
		if err != nil || p.version == 0 {
			return err
		}
		m.later(&m.fenced)
		if time.Now().After(limit) {
			return unavailablef("this host was cut off from %s, and that can't be undone yet: see dvold's log, and try again", p.Domain)
		}
		select {
		case <-ctx.Done():
			return unavailablef("this host was cut off from %s, and that is not undone yet: %w", p.Domain, ctx.Err())
		case <-time.After(lastLook):
		}
	}
}

// fencedFrom returns a fence against this host that covers a volume, if there is
// one.
func (m *Manager) fencedFrom(ctx context.Context, o owner) (proof, error) {
	stored, err := m.coord.List(ctx, proofsAgainst(m.cfg.Host))
	if err != nil {
		return proof{}, unavailable(err)
	}
	for _, s := range stored {
		p, err := decodeProof(s)
		if err != nil {
			return proof{}, err
		}
		if p.HostID == m.me.ID && p.Fence != nil && slices.Contains(o.domains(), p.Domain) {
			return p, nil
		}
	}
	return proof{}, nil
}

// oldestClaim is the lowest incarnation of this host that may still have
// something of an exclusive volume: this one, if no earlier one does.
func (m *Manager) oldestClaim(ctx context.Context, oldest uint64) (uint64, error) {
	for _, e := range m.exclusiveEntries() {
		o, ok := m.owned(e.Name)
		switch {
		case e.Lost == "" && len(e.Uses) == 0 && !e.mounted: // a mount that has only begun, and may wait for this
		case e.Lost != "" || !ok:
			return 0, nil // it is not known of which stay that is
		default:
			oldest = min(oldest, o.incarnation)
		}
	}
	names, err := m.coord.Keys(ctx, holdingKey(m.cfg.Host, ""))
	if err != nil {
		return 0, unavailable(err)
	}
	for _, key := range names {
		h, err := m.holderOf(ctx, m.cfg.Host, path.Base(key))
		if err != nil {
			return 0, err
		}
		if h.Access == AccessExclusive && h.HostID == m.me.ID {
			oldest = min(oldest, h.Incarnation)
		}
	}
	return oldest, nil
}

// undoFence undoes one fence and takes the proof back.
func (m *Manager) undoFence(ctx context.Context, session coordination.Session, stored coordination.Record, p proof) error {
	if p.Fence != nil {
		pool := m.pools[p.Fence.Pool]
		if pool == nil || pool.Fencer == nil || pool.Fencer.Method() != p.UndoBy {
			return fmt.Errorf("host %q was cut off by %q from pool %q, and has no way to undo it", p.Host, p.UndoBy, p.Fence.Pool)
		}
		ctx, cancel := context.WithTimeout(ctx, unfenceTimeout)
		defer cancel()
		if err := m.inTurn(ctx, session, pool.Fencer, *p.Fence, pool.Fencer.Unfence); err != nil {
			return fmt.Errorf("undo the fence of host %q from %s: %w", p.Host, p.Domain, err)
		}
		m.step("unfence: undone")
	}
	if _, err := m.commit(ctx, coordination.Delete(stored)); ignoreConflict(err) != nil {
		return fmt.Errorf("take back the proof %s: %w", stored.Key, err)
	}
	m.log.Info("this host is clean, and not fenced any more", "domain", p.Domain, "method", p.Method, "proof", stored.Key)
	return nil
}

// incarnationOf reads it from the key of a proof.
func incarnationOf(key, host string) (uint64, error) {
	rest := key[len(proofsAgainst(host)):]
	for i, c := range rest {
		if c == '/' {
			return strconv.ParseUint(rest[:i], 10, 64)
		}
	}
	return 0, fmt.Errorf("%q is no key of a proof", key)
}
