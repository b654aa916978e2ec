package volumes

import (
	"context"
	"fmt"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/coordination"
)

// takeOver makes this host the owner of a volume whose owner is silent: it has the owner cut off, writes that down as a proof, and with it
// becomes the owner. Each step may be repeated, by this host or another, after a
// crash at any line. It returns coordination.ErrConflict or errTryAgain if
// something has changed, and otherwise ErrUnavailable, with what an operator
// can do.
func (m *Manager) takeOver(ctx context.Context, session coordination.Session, r record, p *pool, o owner) error {
	if t := m.takeover(r, p); t != TakeoverAuto {
		return m.forOperator(r, o, fmt.Sprintf("its takeover is %s", t))
	}
	found, err := m.proven(ctx, o)
	if err != nil {
		return err
	}
	if found.Version == 0 {
		how, domain, err := m.howTo(r, p, o)
		if err != nil {
			return err
		}
		if how == byLease {
			if err := m.outwait(ctx, r, o); err != nil {
				return err
			}
		}
		if o, err = m.declare(ctx, session, o, how); err != nil {
			return err
		}
		m.step("takeover: intent written")
		if found, err = m.prove(ctx, session, r, p, o, how, domain); err != nil {
			return err
		}
		m.step("takeover: proof written")
	}
	if err := m.becomeOwner(ctx, session, r, p, o, []coordination.Op{coordination.Check(found)}); err != nil {
		return err
	}
	m.log.Warn("volume was taken over from a host that is silent", "volume", r.Name, "pool", r.Pool, "from", o.Host, "incarnation", o.Incarnation, "proof", found.Key)
	m.counters.Takeovers.Add(1)
	return nil
}

// howTo says how an owner can be proven to write no more: by a fence of the pool,
// for which the owner has left what it takes, or by its lease. Otherwise it
// returns ErrUnavailable, with what an operator can do.
func (m *Manager) howTo(r record, p *pool, o owner) (method, domain string, err error) {
	fence := o.Terms.Fence
	switch {
	case p.Fencer != nil && fence != nil && fence.Method == p.Fencer.Method():
		return fence.Method, fence.Identity.Domain, nil
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
// owner can't be it again meanwhile, and others can finish it.
func (m *Manager) declare(ctx context.Context, session coordination.Session, o owner, how string) (owner, error) {
	next := o
	next.State = ownerFencing
	next.Taker = &taker{caller{m.cfg.Host, session.Incarnation()}, time.Now().UTC(), how}
	put, err := next.put()
	if err != nil {
		return o, err
	}
	written, err := m.commitIn(ctx, session, put)
	if err != nil {
		return o, err
	}
	return decodeOwner(written[0])
}

// prove has the owner cut off by the method, and writes the proof.
func (m *Manager) prove(ctx context.Context, session coordination.Session, r record, p *pool, o owner, method, domain string) (coordination.Record, error) {
	var undo *backends.Fence
	if method != byLease {
		f := fenceOf(o, r)
		began := time.Now()
		m.log.Warn("cutting a silent host off", "volume", r.Name, "pool", r.Pool, "host", o.Host, "incarnation", o.Incarnation, "by", method, "domain", domain)
		if err := p.Fencer.Fence(ctx, f); err != nil { // beside the pool's calls, which may all hang

			return coordination.Record{}, unavailablef("%s, which is silent and was not cut off: %w", o.names(), err)
		}
		m.log.Warn("cut a silent host off", "volume", r.Name, "host", o.Host, "by", method, "took", time.Since(began).Round(time.Millisecond))
		m.step("takeover: fenced")
		undo = &f
	}
	op, err := m.newProof(ctx, session, o, domain, method, undo)
	if err != nil {
		return coordination.Record{}, err
	}
	same := coordination.Check(coordination.Record{Key: ownerKey(o.Volume), Version: o.version})
	written, err := m.commitIn(ctx, session, op, same)
	if err != nil {
		return coordination.Record{}, err
	}
	return written[0], nil
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
