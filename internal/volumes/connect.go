package volumes

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/coordination"
)

// connect makes a volume that this host owns reachable for it, where its pool's
// fencer knows a host only by that connection, and has the owner's record say by
// what this host is to be cut off. Nothing may be mounted before that: who takes
// the volume over by a record that does not say so yet has nobody to cut off, and
// this host's write of the record, which rests on its version, fails then. The
// caller holds the volume's lock; what was begun is undone by giveBack.
func (m *Manager) connect(ctx context.Context, p *pool, e *entry) error {
	c, ok := p.Fencer.(backends.Connecting)
	o, owned := m.owned(e.Name)
	if e.Identity = nil; !ok || !owned || o.terms.Fence == nil {
		return nil
	}
	was := o.terms.Fence.Identity
	var now backends.Identity
	err := p.do(ctx, func(backends.Backend) (err error) {
		now, err = c.Connect(ctx, e.Handle, was)
		return err
	})
	if err != nil {
		return fmt.Errorf("connect to it: %w", err)
	}
	m.step("mount: connected")
	if now.Domain != was.Domain || len(now.Facts) == 0 {
		return fmt.Errorf("connect to it: pool %q answered with the domain %q and %d facts, which is not how this host can be cut off", p.Name, now.Domain, len(now.Facts))
	}
	if !maps.Equal(now.Facts, was.Facts) {
		if err := m.tellIdentity(ctx, *e, o, now); err != nil {
			return err
		}
	}
	e.Identity = &now
	if err := m.record(*e); err != nil {
		return err
	}
	m.step("mount: connection recorded")
	return m.mayMount(e.Name) // all that may have taken long
}

// tellIdentity has the owner's record say by what this host is to be cut off from
// a volume, if it is the owner still as known has it. Otherwise the volume was
// lost, and it returns ErrUnavailable.
func (m *Manager) tellIdentity(ctx context.Context, e entry, known ownership, id backends.Identity) error {
	session, err := m.session()
	if err != nil {
		return err
	}
	o, err := m.loadOwner(ctx, e.ID)
	if err != nil {
		return err
	}
	if !m.ofThisHost(o) || o.State == ownerFencing || o.Epoch != known.epoch || o.Incarnation != session.Incarnation() {
		return m.lostMeanwhile(e, lostTo(o))
	}
	o.Terms.Fence = &fenceTerms{known.terms.Fence.Method, id}
	put, err := o.put()
	if err != nil {
		return err
	}
	written, err := m.commitIn(ctx, session, put)
	if errors.Is(err, coordination.ErrConflict) {
		return m.lostMeanwhile(e, "another host's by now")
	}
	if err != nil {
		return fmt.Errorf("write down by what this host is connected to it: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if now, ok := m.ownerships[e.Name]; ok && now.epoch == o.Epoch && now.incarnation == o.Incarnation {
		now.terms.Fence, now.version = o.Terms.Fence, written[0].Version
		m.ownerships[e.Name] = now
	}
	return nil
}

// lostMeanwhile is the error for a volume that was lost before anything of it was
// mounted.
func (m *Manager) lostMeanwhile(e entry, to string) error {
	m.notOwned(e.Name)
	return unavailablef("it was taken over while it was being mounted: it is %s", to)
}

// connects tells whether this host may be connected to a volume without having
// it mounted.
func (m *Manager) connects(e entry) bool {
	p := m.pools[e.Pool]
	if !e.Exclusive || p == nil {
		return false
	}
	_, ok := p.Fencer.(backends.Connecting)
	return ok || e.Identity != nil
}

// disconnect undoes what connect, or a mount that was cut short, has begun for a volume
// that is not mounted: a client may have been started for it.
func (m *Manager) disconnect(ctx context.Context, e entry) error {
	if err := m.release(ctx, e, m.target(e.ID)); err != nil {
		return fmt.Errorf("end the connection to it: %w", err)
	}
	m.step("give back: disconnected")
	return nil
}

// knownBy tells whether the record has what this host is to be cut off by.
func (e entry) knownBy(o owner) bool {
	if e.Identity == nil || o.Terms.Fence == nil {
		return true
	}
	is := o.Terms.Fence.Identity
	return is.Domain == e.Identity.Domain && maps.Equal(is.Facts, e.Identity.Facts)
}
