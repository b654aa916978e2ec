package volumes

import (
	"context"
	"fmt"
	"time"

	"github.com/dvol/dvold/coordination"
)

// unansweredFor is how long a host does not answer a request before a hint that
// its machine is down is believed, which a live dvold answers in milliseconds.
const unansweredFor = 2 * time.Second

// askedAgain is how often an owner is asked that answers in spite of such a hint,
// while a mount waits for it.
const askedAgain = 5 * time.Second

// dispossess makes this host the owner of a volume that another owns, if that
// lets go of it or is silent. errTryAgain means that the owner, or what it is
// doing, has changed; ErrInUse that it is live and does not let go.
func (m *Manager) dispossess(ctx context.Context, session coordination.Session, r record, p *pool, o owner, wait *wait) error {
	wait.doubted = false
	h, err := m.findHost(ctx, o.Host)
	if err != nil {
		return err
	}
	if o.State == ownerFencing {
		busy, err := m.alive(ctx, o.Taker.caller)
		if err != nil {
			return err
		}
		if busy && !o.Taker.Over && o.Taker.caller != (caller{m.cfg.Host, session.Incarnation()}) {
			if err := wait.change(ctx, o); err != nil {
				return unavailablef("host %q is taking it over from host %q since %s: %w", o.Taker.Host, o.Host, o.Taker.Since.Local().Format(time.DateTime), err)
			}
			return errTryAgain
		}
		if m.ofThisHost(o) {
			return m.reacquire(ctx, session, r, p, o)
		}
		return m.takeOver(ctx, session, r, p, o)
	}
	wait.doubted = h.Suspect && p.Fencer != nil && o.Terms.Fence != nil
	if !live(h, o) || wait.doubted && wait.unanswered(ctx, o) {
		return m.takeOver(ctx, session, r, p, o)
	}
	return m.ask(ctx, o, wait)
}

// live tells whether the machine that owns a volume is in the cluster, in
// whichever stay: one that came back settles what it owned before.
func live(h coordination.Host, o owner) bool { return h.Live && h.ID == o.HostID }

// ask asks the live owner of a volume to let go of it, and waits for that. It
// returns errTryAgain when anything has changed.
func (m *Manager) ask(ctx context.Context, o owner, wait *wait) error {
	if err := wait.request(ctx, o); err != nil {
		return err
	}
	limited, cancel := context.WithDeadline(ctx, wait.until)
	defer cancel()
	if err := wait.change(limited, o); err == nil {
		return errTryAgain
	}
	if err := ctx.Err(); err != nil {
		return unavailablef("%s: %w", o.names(), err)
	}
	answer := wait.answer(ctx)
	if answer == "" {
		answer = "it does not answer"
	}
	return fmt.Errorf("%s: %s; stop its containers there, or wait: %w", o.names(), answer, ErrInUse)
}
