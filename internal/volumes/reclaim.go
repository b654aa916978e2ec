package volumes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/internal/guard"
	"github.com/dvol/dvold/internal/standing"
)

// reclaimSlots is how many volumes are reclaimed at a time.
const reclaimSlots = 8

// settleOwners settles what this host owned before it joined the cluster anew:
// each exclusive volume that its journal has becomes its own again in the new
// stay, if nobody has come between, or is cut off. Until then this host becomes
// the owner of nothing else.
func (m *Manager) settleOwners(session coordination.Session) {
	slots := make(chan struct{}, reclaimSlots)
	var all sync.WaitGroup
	for _, e := range m.exclusiveEntries() {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			m.reclaim(session, e)
		})
	}
	all.Wait()
	m.poke()
}

// exclusiveEntries are the journal's entries of exclusive volumes.
func (m *Manager) exclusiveEntries() []entry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var all []entry
	for _, e := range m.mounts {
		if e.Exclusive {
			all = append(all, e)
		}
	}
	return all
}

// unsettledOwner names a volume other than name that this host has mounted and
// that is not its own in this stay, or is "".
func (m *Manager) unsettledOwner(incarnation uint64, name string) string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, e := range m.mounts {
		if !e.Exclusive || e.Name == name || len(e.Uses) == 0 && !e.mounted {
			continue
		}
		if e.Lost != "" {
			return fmt.Sprintf("volume %q is being cut off", e.Name)
		}
		if o, ok := m.ownerships[e.Name]; !ok || o.incarnation != incarnation {
			return fmt.Sprintf("volume %q", e.Name)
		}
	}
	return ""
}

// reclaim settles one volume, and repeats what fails for as long as the session
// lasts. A call for the volume that is under way does it by itself.
func (m *Manager) reclaim(session coordination.Session, e entry) {
	for pause := firstLook; session.Context().Err() == nil && m.background.Err() == nil; pause = min(2*pause, lastLook) {
		err := m.tryReclaim(session, e.Name)
		if err == nil {
			return
		}
		if pause == lastLook {
			m.log.Warn("volume is not settled yet", "volume", e.Name, "pool", e.Pool, "err", err)
		}
		m.pause(pause)
	}
}

func (m *Manager) tryReclaim(session coordination.Session, name string) error {
	release, ok := m.locks.soon(m.background, name)
	if !ok {
		return errors.New("a call for it is under way")
	}
	defer release()
	e, ok := m.entry(name)
	if !ok || !e.Exclusive {
		return nil
	}
	ctx, cancel := context.WithTimeout(m.background, 4*patience)
	defer cancel()
	return m.reclaimOne(ctx, session, e)
}

// reclaimOne finds out whether an exclusive volume of the journal is this host's
// still, makes it its own in this stay, and otherwise begins to cut it off. The
// caller holds the volume's lock.
func (m *Manager) reclaimOne(ctx context.Context, session coordination.Session, e entry) error {
	if e.Lost != "" || len(e.Uses) == 0 && !e.mounted {
		return nil // is being seen to
	}
	if err := m.reach.err(); err != nil {
		return err
	}
	o, err := m.loadOwner(ctx, e.ID)
	if err != nil {
		return err
	}
	known, ok := m.owned(e.Name)
	switch {
	case o.version == 0:
		return unavailablef("the record of its owner is gone")
	case o.Epoch < e.Epoch:
		// The records went back in time, to an earlier owner.
	case !m.ofThisHost(o):
		return m.lose(e, fmt.Sprintf("it is %s", lostTo(o)))
	case o.State == ownerFencing:
		return m.lose(e, fmt.Sprintf("host %q has begun to take it over", o.Taker.Host))
	case o.Boot != m.me.Boot || o.Journal != m.journal.id:
		return m.lose(e, "another copy of this host owns it")
	case !e.mounted:
		return m.lose(e, "it is not mounted any more")
	case ok && known.incarnation == o.Incarnation && o.Incarnation == session.Incarnation() && known.terms.Guarded == m.guards(known.terms) && e.knownBy(o):
		return nil
	}
	next, err := m.goingOn(ctx, session, o, e)
	if err != nil {
		return err
	}
	put, err := next.put()
	if err != nil {
		return err
	}
	own, err := m.holdingOf(ctx, m.cfg.Host, e.Name)
	if err != nil {
		return err
	}
	hold, err := m.holdOps(record{Name: e.Name, ID: e.ID, Access: AccessExclusive}, own)
	if err != nil {
		return err
	}
	deadline := session.Deadline()
	written, err := m.commitIn(ctx, session, append(append([]coordination.Op{put}, hold...), o.unfenced()...)...)
	if errors.Is(err, coordination.ErrConflict) {
		if stored, err := m.proven(ctx, o); err == nil && stored.Version != 0 {
			return m.lose(e, "it was cut off from outside: "+stored.Key)
		}
	}
	if err != nil {
		return err
	}
	m.setHolding(e.Name, holding{e.ID, written[1].Version, written[2].Version})
	over := m.adopt(e, next, written[0].Version, deadline)
	m.log.Info("volume is owned on", "volume", e.Name, "pool", e.Pool, "epoch", next.Epoch, "incarnation", next.Incarnation)
	m.step("reclaim: owner written")
	if !over {
		err = m.order(e)
	}
	if over || errors.Is(err, guard.ErrOver) {
		return m.lose(e, "its lease was over when it became this host's again")
	}
	return err
}

// goingOn is the owner's record of a volume that this host goes on owning, in
// another stay in the cluster.
func (m *Manager) goingOn(ctx context.Context, session coordination.Session, o owner, e entry) (owner, error) {
	next := o
	if o.Epoch < e.Epoch {
		p := m.pools[e.Pool]
		if p == nil {
			return o, unavailablef("its pool %q is not configured any more", e.Pool)
		}
		t, err := m.termsOf(ctx, session, record{Name: e.Name, ID: e.ID, Handle: e.Handle}, p)
		if err != nil {
			return o, err
		}
		o.Epoch = e.Epoch - 1
		next = m.ownedBy(o, session.Incarnation(), t)
	}
	next.State, next.Problem, next.Incarnation = ownerHeld, "", session.Incarnation()
	next.Terms.LeaseTTL, next.Terms.Guarded = session.TTL(), m.guards(next.Terms)
	if f := next.Terms.Fence; f != nil && !e.knownBy(next) { // the records went back in time
		next.Terms.Fence = &fenceTerms{f.Method, *e.Identity}
	}
	return next, nil
}

// adopt notes that this host goes on owning a volume, unless its lease was over before.
func (m *Manager) adopt(e entry, o owner, version uint64, deadline time.Duration) (over bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	was, ok := m.ownerships[e.Name]
	state := standing.New(o.Terms.OnSessionLoss, o.Terms.LeaseTTL, o.Terms.CutTime, deadline)
	if ok && was.id == e.ID {
		var act standing.Action
		state, act = standing.Step(was.state, standing.Readopted{Deadline: deadline}, m.now())
		over = act != standing.Nothing
	}
	m.ownerships[e.Name] = ownership{
		id: e.ID, epoch: o.Epoch, incarnation: o.Incarnation, terms: o.Terms, version: version, state: state,
	}
	return over
}

// lostTo says whose a volume is that was this host's.
func lostTo(o owner) string {
	if o.State == ownerFree {
		return "owned by nobody any more"
	}
	return o.names()
}

// guards tells whether a guard sees to those terms at the moment.
func (m *Manager) guards(t terms) bool { return t.OnSessionLoss == standing.Cut && m.guard.Guarded() }
