package volumes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/internal/standing"
)

// ownership is what this host knows of a volume that it owns.
type ownership struct {
	id          string // of the volume
	epoch       uint64
	incarnation uint64 // of this host, as the owner's record has it
	terms       terms
	version     uint64         // of the owner's record
	state       standing.State // how far the lease goes
}

// settleTime is how long a mount waits for what earlier stays of this host in
// the cluster owned to be settled.
const settleTime = 10 * time.Second

// own has the records say that this host owns an exclusive volume and holds it:
// it acquires a free one, waits for a live owner, at most for the volume's
// mount_wait, and takes it over from a silent one. It returns the volume's
// record as it is by then, ErrNotFound, ErrInUse, naming the owner, or
// ErrUnavailable. The caller holds the volume's lock.
func (m *Manager) own(ctx context.Context, r record, p *pool) (record, error) {
	wait := m.begin(r, p)
	defer wait.end(ctx)
	for {
		session, err := m.maySettle(ctx, r.Name)
		if err != nil {
			return r, err
		}
		if e, ok := m.entry(r.Name); ok && e.ID == r.ID && len(e.Uses) > 0 {
			// It was mounted, and is not seen to be: an earlier stay's.
			if err := m.reclaimOne(ctx, session, e); err != nil {
				return r, err
			}
			return r, m.mayMount(r.Name)
		}
		if o, ok := m.owned(r.Name); ok && o.id == r.ID && o.incarnation == session.Incarnation() {
			if err := m.holdOn(ctx, session, r.ID); err != nil {
				return r, err
			}
			return r, m.mayMount(r.Name)
		}
		o, err := m.loadOwner(ctx, r.ID)
		if err != nil {
			return r, err
		}
		switch {
		case o.State == ownerFree:
			err = m.becomeOwner(ctx, session, r, p, o, nil)
		case m.ofThisHost(o) && o.State != ownerFencing:
			err = m.reacquire(ctx, session, r, p, o)
		default:
			err = m.dispossess(ctx, session, r, p, o, wait)
		}
		switch {
		case err == nil:
			return r, nil
		case errors.Is(err, errTryAgain):
		case errors.Is(err, coordination.ErrConflict):
			if r, err = m.reread(ctx, r); err != nil {
				return r, err
			}
		default:
			return r, err
		}
		if err := ctx.Err(); err != nil {
			return r, unavailablef("it was not got in time: %w", err)
		}
	}
}

// errTryAgain means that something has changed, and is to be looked at anew.
var errTryAgain = errors.New("changed meanwhile")

// maySettle returns the session under which this host may become an owner, once
// what its earlier stays in the cluster owned is settled.
func (m *Manager) maySettle(ctx context.Context, name string) (coordination.Session, error) {
	limit := time.Now().Add(settleTime)
	for {
		if err := m.reach.writable(); err != nil {
			return nil, err
		}
		session, err := m.session()
		if err != nil {
			return nil, err
		}
		unsettled := m.unsettledOwner(session.Incarnation(), name)
		if unsettled == "" {
			return session, nil
		}
		if time.Now().After(limit) {
			return nil, unavailablef("host %q is still settling what it owned before it lost its session: %s", m.cfg.Host, unsettled)
		}
		select {
		case <-ctx.Done():
			return nil, unavailablef("host %q is still settling what it owned before: %w", m.cfg.Host, ctx.Err())
		case <-time.After(firstLook):
		}
	}
}

// reread waits until nobody is about to change a volume, and reads its record
// anew.
func (m *Manager) reread(ctx context.Context, r record) (record, error) {
	if err := m.undrained(ctx); err != nil {
		return r, err
	}
	patient, cancel := context.WithTimeout(ctx, intentPatience)
	err := m.clear(patient, r.Name)
	cancel()
	if err != nil {
		return r, err
	}
	now, err := m.existing(ctx, r.Name)
	if err == nil && (now.ID != r.ID || now.Access != AccessExclusive) {
		err = unavailablef("it was replaced or changed just now: try again")
	}
	return now, err
}

// reacquire makes this host the next owner of what an earlier stay of it, or
// this one, left, of which it has nothing any more; also where a taker that is gone
// was about to take it. It needs no proof: one that it wrote for itself would be
// taken back at once, as of a host that is clean, and without one it would have
// itself fenced.
func (m *Manager) reacquire(ctx context.Context, session coordination.Session, r record, p *pool, o owner) error {
	if e, known := m.entry(r.Name); !m.provablyGone(o, e, known) {
		return m.lostState(r, o)
	}
	return m.becomeOwner(ctx, session, r, p, o, nil)
}

// lostState is the error for a volume of which this host can't tell whether an
// earlier stay of it has let go.
func (m *Manager) lostState(r record, o owner) error {
	return unavailablef("host %q owned it (since %s) and lost its own state, %s, so it can't tell whether the volume is still mounted: stop its containers, then reboot, or dvold volume release %s --from %s",
		m.cfg.Host, o.Since.Local().Format(time.DateTime), m.cfg.RunDir, r.Name, o.Host)
}

// becomeOwner writes that this host owns a volume, as the next owner after what
// o says, and holds it. checks are what that rests on. It returns
// coordination.ErrConflict if anything has changed.
func (m *Manager) becomeOwner(ctx context.Context, session coordination.Session, r record, p *pool, o owner, checks []coordination.Op) error {
	if err := m.upToDate(ctx, p, r, o); err != nil {
		return err
	}
	t, err := m.termsOf(ctx, session, r, p)
	if err != nil {
		return err
	}
	if _, ok := p.Fencer.(backends.Connecting); ok && t.Fence != nil {
		t.Fence = o.left(t.Fence)
	}
	next := m.ownedBy(o, session.Incarnation(), t)
	if err := m.cleanFor(ctx, next); err != nil {
		return err
	}
	put, err := next.put()
	if err != nil {
		return err
	}
	own, err := m.holdingOf(ctx, m.cfg.Host, r.Name)
	if err != nil {
		return err
	}
	hold, err := m.holdOps(r, own)
	if err != nil {
		return err
	}
	ops := append(append([]coordination.Op{put}, hold...), unchanged(r)...)
	if o.Host != "" && o.Host != m.cfg.Host {
		was, err := m.holdingOf(ctx, o.Host, r.Name)
		if err != nil {
			return err
		}
		ops = append(ops, was.delete(o.Host, r.Name)...)
	}
	ops = append(ops, coordination.Check(coordination.Record{Key: drainKey(m.cfg.Host)}))
	ops = append(ops, checks...)
	deadline := session.Deadline()
	written, err := m.commitIn(ctx, session, ops...)
	if err != nil {
		return err
	}
	m.setOwned(r.Name, ownership{
		id: r.ID, epoch: next.Epoch, incarnation: next.Incarnation, terms: t, version: written[0].Version,
		state: standing.New(t.OnSessionLoss, t.LeaseTTL, t.CutTime, deadline),
	})
	m.setHolding(r.Name, holding{r.ID, written[1].Version, written[2].Version})
	m.log.Info("volume is owned", "volume", r.Name, "pool", r.Pool, "epoch", next.Epoch, "after", o.Host)
	m.step("own: owner written")
	return nil
}

// termsOf is what this host promises about a volume.
func (m *Manager) termsOf(ctx context.Context, session coordination.Session, r record, p *pool) (terms, error) {
	t := terms{OnSessionLoss: p.Exclusive.OnSessionLoss, LeaseTTL: session.TTL(), CutTime: m.cfg.CutTime}
	t.Guarded = m.guards(t)
	if p.Fencer == nil {
		return t, nil
	}
	identity, err := p.Fencer.Identity(ctx, r.Handle)
	if errors.Is(err, backends.ErrCannotFence) {
		m.log.Warn("this host owns a volume from which it can't be cut off", "volume", r.Name, "pool", p.Name, "err", err)
		t.Incapable = err.Error()
		return t, nil
	}
	if err != nil {
		return t, fmt.Errorf("find out how this host could be cut off: %w", err)
	}
	t.Fence = &fenceTerms{Method: p.Fencer.Method(), Identity: identity}
	return t, nil
}

// mayMount returns why a volume that this host owns must not be mounted now, or
// nil.
func (m *Manager) mayMount(name string) error {
	m.mu.RLock()
	o, ok := m.ownerships[name]
	e := m.mounts[name]
	m.mu.RUnlock()
	switch {
	case !ok:
		return unavailablef("host %q does not own it any more", m.cfg.Host)
	case e.Lost != "":
		return unavailablef("host %q is being cut off from it: %s", m.cfg.Host, e.Lost)
	}
	if err := o.state.MayMount(m.now()); err != nil {
		return unavailablef("host %q must not mount it now: %w", m.cfg.Host, err)
	}
	return nil
}

// mayServe returns why a volume that this host has mounted must not be given to one more
// container now, or nil. Where it is not known whether this host owns it still, that is
// being found out.
func (m *Manager) mayServe(name string) error {
	o, ok := m.owned(name)
	if !ok {
		return nil
	}
	if err := o.state.MayServe(m.now()); err != nil {
		return unavailablef("host %q must not use it any more: %w", m.cfg.Host, err)
	}
	return nil
}

func (m *Manager) owned(name string) (ownership, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	o, ok := m.ownerships[name]
	return o, ok
}

func (m *Manager) setOwned(name string, o ownership) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ownerships[name] = o
}

func (m *Manager) notOwned(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.ownerships, name)
}
