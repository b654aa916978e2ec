package volumes

import (
	"context"
	"fmt"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/coordination"
)

// takeOver makes this host the owner of a volume whose owner is silent: it has
// the owner cut off, writes that down as a proof, and with it becomes the owner.
// Each step may be repeated, by this host or another, after a crash at any line.
// It returns coordination.ErrConflict or errTryAgain if something has changed,
// and otherwise ErrUnavailable, with what an operator can do.
func (m *Manager) takeOver(ctx context.Context, session coordination.Session, r record, p *pool, o owner) error {
	found, err := m.proven(ctx, o)
	if err != nil {
		return err
	}
	if err := m.permitted(r, p, o, found); err != nil {
		return err
	}
	if found.Version == 0 {
		if o, found, err = m.cutOff(ctx, session, r, p, o); err != nil {
			return err
		}
	}
	last := o
	if by, err := decodeProof(found); err != nil {
		return err
	} else if last.Terms.Fence != nil && by.Method == last.Terms.Fence.Method {
		last.Terms.Fence = nil // nothing is left of it
	}
	if err := m.becomeOwner(ctx, session, r, p, last, []coordination.Op{coordination.Check(found)}); err != nil {
		return err
	}
	m.log.Warn("volume was taken over from a host that is silent", "volume", r.Name, "pool", r.Pool, "from", o.Host, "incarnation", o.Incarnation, "proof", found.Key)
	m.counters.Takeovers.Add(1)
	return nil
}

// permitted returns ErrUnavailable, with what an operator can do, if a person is to stand
// between a silent owner and the next. A proof says that the owner can write no more, which
// is not yet leave to go on: a fence may have been meant for another volume. It is if an
// operator gave it, or the owner itself.
func (m *Manager) permitted(r record, p *pool, o owner, found coordination.Record) error {
	policy := m.takeover(r, p)
	if policy == TakeoverAuto {
		return nil
	}
	if found.Version != 0 {
		by, err := decodeProof(found)
		if err != nil || by.Method == byWord || by.Method == byItself {
			return err
		}
	}
	if policy == TakeoverNever {
		return unavailablef("%s, which is silent and may still write; its takeover is never: bring it back, or when it is off for good, dvold host forget %s", o.names(), o.Host)
	}
	return m.forOperator(r, o, fmt.Sprintf("its takeover is %s", policy))
}

// cutOff has a silent owner cut off, or waits until it has cut itself off, and
// returns the owner's record as it is by then, and the proof.
func (m *Manager) cutOff(ctx context.Context, session coordination.Session, r record, p *pool, o owner) (owner, coordination.Record, error) {
	how, domain, err := m.howTo(r, p, o)
	if err != nil {
		return o, coordination.Record{}, err
	}
	if how == byLease {
		if err := m.outwait(ctx, r, o); err != nil {
			return o, coordination.Record{}, err
		}
	}
	if domain == volumeDomain(o.Volume) {
		return m.cutOffBy(ctx, session, r, p, o, how, domain)
	}
	// All who take volumes of a domain write one record, before their fences and after
	// them: without turns none would find it as it left it. The first proof is for all.
	var found coordination.Record
	err = m.serially(ctx, session, proofKey(o.Host, o.Incarnation, domain), func(ctx context.Context) (err error) {
		if found, err = m.proven(ctx, o); err == nil && found.Version == 0 {
			o, found, err = m.cutOffBy(ctx, session, r, p, o, how, domain)
		}
		return err
	})
	return o, found, err
}

// cutOffBy has the owner cut off in a way, unless it has cut itself off by its lease,
// and writes down that it is.
func (m *Manager) cutOffBy(ctx context.Context, session coordination.Session, r record, p *pool, o owner, how, domain string) (owner, coordination.Record, error) {
	none := coordination.Record{}
	o, against, err := m.declare(ctx, session, r, o, how, domain)
	if err != nil {
		return o, none, err
	}
	m.step("takeover: intent written")
	if how != byLease {
		if err := m.fence(ctx, session, r, p, o, against); err != nil {
			return o, none, err
		}
		m.step("takeover: fenced")
	}
	against.Taker = nil
	op, err := against.prove(how, caller{m.cfg.Host, session.Incarnation()}).put(o.Incarnation)
	if err != nil {
		return o, none, err
	}
	same := coordination.Check(coordination.Record{Key: ownerKey(o.Volume), Version: o.version})
	written, err := m.commitIn(ctx, session, op, same)
	if err != nil {
		return o, none, err
	}
	m.step("takeover: proof written")
	return o, written[0], nil
}

// howTo says how an owner can be proven to write no more: by a fence of the pool,
// for which the owner has left what it takes, or by its lease. Otherwise it
// returns ErrUnavailable, with what an operator can do.
func (m *Manager) howTo(r record, p *pool, o owner) (method, domain string, err error) {
	fence := o.Terms.Fence
	switch {
	case p.Fencer != nil && fence != nil && fence.Method == p.Fencer.Method():
		return fence.Method, fence.Identity.Domain, nil
	case p.Fencer != nil && fence == nil && o.Terms.Incapable != "":
		err = m.forOperator(r, o, o.Terms.Incapable)
	case p.Fencer != nil && fence == nil:
		err = m.forOperator(r, o, "it left no word of how to cut it off")
	case p.Fencer != nil:
		err = m.forOperator(r, o, fmt.Sprintf("it is to be cut off by %q, which this host's pool %q can't", fence.Method, p.Name))
	case !p.Exclusive.AcceptLease:
		err = m.forOperator(r, o, fmt.Sprintf("pool %q has no fence, and does not accept leases", p.Name))
	case !o.Terms.byLease():
		err = m.forOperator(r, o, "it did not promise to cut itself off (no guard ran there, or on_session_loss is keep)")
	default:
		return byLease, volumeDomain(o.Volume), nil
	}
	return "", "", err
}

// forOperator is the error for a volume that can't be taken over without an
// operator, or not at all.
func (m *Manager) forOperator(r record, o owner, why string) error {
	return unavailablef("%s, which is silent and may still write; %s: bring it back, or when it is off, or its containers are stopped for sure, dvold volume release %s --from %s", o.names(), why, r.Name, o.Host)
}

// declare writes down who is about to take a volume over, and how, so that the
// owner can't be it again meanwhile, and others can finish it; and for a fence
// what is to be undone one day. It returns both records.
func (m *Manager) declare(ctx context.Context, session coordination.Session, r record, o owner, how, domain string) (owner, proof, error) {
	me := caller{m.cfg.Host, session.Incarnation()}
	against, err := m.loadProof(ctx, o, domain)
	if err != nil {
		return o, against, err
	}
	next := o
	next.State, next.Taker = ownerFencing, &taker{me, time.Now().UTC(), how, false}
	put, err := next.put()
	if err != nil {
		return o, against, err
	}
	ops := []coordination.Op{put}
	if how != byLease {
		f := fenceOf(o, r)
		against.Fence, against.UndoBy, against.Taker = &f, how, &me
		if put, err = against.put(o.Incarnation); err != nil {
			return o, against, err
		}
		ops = append(ops, put)
	}
	written, err := m.commitIn(ctx, session, ops...)
	if err != nil {
		return o, against, err
	}
	if len(written) > 1 {
		if against, err = decodeProof(written[1]); err != nil {
			return o, against, err
		}
	}
	next, err = decodeOwner(written[0])
	return next, against, err
}

// fence has the owner cut off. If that fails, the records say that nothing is
// under way any more.
func (m *Manager) fence(ctx context.Context, session coordination.Session, r record, p *pool, o owner, against proof) error {
	began := time.Now()
	m.log.Warn("cutting a silent host off", "volume", r.Name, "pool", r.Pool, "host", o.Host, "incarnation", o.Incarnation, "by", against.UndoBy, "domain", against.Domain)
	err := m.inTurn(ctx, session, p.Fencer, *against.Fence, p.Fencer.Fence) // beside the pool's calls, which may all hang
	if err == nil {
		m.log.Warn("cut a silent host off", "volume", r.Name, "host", o.Host, "by", against.UndoBy, "took", time.Since(began).Round(time.Millisecond))
		return nil
	}
	m.log.Error("a silent host was not cut off", "volume", r.Name, "host", o.Host, "by", against.UndoBy, "err", err)
	if late := m.giveUpTaking(ctx, session, o, against); late != nil {
		m.log.Warn("the records say for a while that a host is being cut off", "volume", r.Name, "host", o.Host, "err", late)
	}
	return unavailablef("%s, which is silent and was not cut off: %w", o.names(), err)
}

// giveUpTaking writes down that this host is not at it any more.
func (m *Manager) giveUpTaking(ctx context.Context, session coordination.Session, o owner, against proof) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	over := *o.Taker
	over.Over = true
	o.Taker, against.Taker = &over, nil
	put, err := o.put()
	if err != nil {
		return err
	}
	clear, err := against.put(o.Incarnation)
	if err != nil {
		return err
	}
	_, err = m.commitIn(ctx, session, put, clear)
	return err
}

// fenceOf is what a fencer is told of an owner: with the identity that it left
// itself, never one that is found out later.
func fenceOf(o owner, r record) backends.Fence {
	return backends.Fence{
		Host: o.Host, Incarnation: o.Incarnation, Pool: r.Pool, Volume: r.Name, ID: r.ID, Handle: r.Handle,
		Epoch: o.Epoch, Identity: o.Terms.Fence.Identity,
	}
}

// outwait waits until a silent owner has cut itself off by its own terms: from a
// read of its host's free key on, for terms.leaseWait by this host's clock, with
// the key unchanged. It returns errTryAgain if the host is live after all.
//
// What was seen before does not count: a snapshot of Consul that is restored
// gives a key its old version back.
func (m *Manager) outwait(ctx context.Context, r record, o owner) error {
	var version uint64
	var since time.Duration
	for {
		h, err := m.findHost(ctx, o.Host)
		if err != nil {
			return err
		}
		if h.ID != o.HostID {
			return m.forOperator(r, o, "it was forgotten, or another machine has its name")
		}
		if h.Live {
			return errTryAgain
		}
		if now := m.now(); since == 0 || h.Version != version {
			m.log.Warn("waiting until a silent host has cut itself off", "volume", r.Name, "pool", r.Pool, "host", o.Host, "incarnation", o.Incarnation, "for", o.Terms.leaseWait())
			version, since = h.Version, now
		}
		left := o.Terms.leaseWait() - (m.now() - since)
		if left <= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return unavailablef("%s, which is silent, and will have cut itself off only in %v: try again: %w", o.names(), left.Round(time.Second), ctx.Err())
		case <-time.After(min(left, lastLook)):
		}
	}
}
