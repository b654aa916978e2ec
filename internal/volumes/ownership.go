package volumes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dvol/dvold/coordination"
)

// Owner describes who owns an exclusive volume, and what a takeover would do.
type Owner struct {
	State       string    `json:"state"` // free, held, releasing or fencing
	Epoch       uint64    `json:"epoch"`
	Host        string    `json:"host,omitempty"`
	ThisHost    bool      `json:"this_host"`
	Live        bool      `json:"live"`
	Suspect     bool      `json:"suspect"` // something outside dvold says that the machine is down
	Incarnation uint64    `json:"incarnation,omitempty"`
	Since       time.Time `json:"since,omitzero"`
	Problem     string    `json:"problem,omitempty"` // what keeps it from letting go
	TakenBy     string    `json:"taken_by,omitempty"`

	OnSessionLoss string `json:"on_session_loss,omitempty"` // keep or cut
	LeaseTTL      string `json:"lease_ttl,omitempty"`       // a duration
	Guarded       bool   `json:"guarded"`
	Fence         string `json:"fence,omitempty"`      // how it can be cut off: command, …
	Domain        string `json:"domain,omitempty"`     // what that covers
	Proof         string `json:"proof,omitempty"`      // that it can write no more, if there is one
	Takeover      string `json:"takeover"`             // auto, manual or never
	Would         string `json:"would,omitempty"`      // what a mount on this host would do now
	Lost          string `json:"lost,omitempty"`       // why this host is being cut off
	LeaseEnds     string `json:"lease_ends,omitempty"` // of this host's own, from now; a duration
}

// ownerOf describes who owns a volume, or returns nil if it is not exclusive,
// or ErrUnavailable.
func (m *Manager) ownerOf(ctx context.Context, r record) (*Owner, error) {
	if r.Access != AccessExclusive {
		return nil, nil
	}
	o, err := m.loadOwner(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	d := Owner{State: string(o.State), Epoch: o.Epoch, Host: o.Host, ThisHost: m.ofThisHost(o), Incarnation: o.Incarnation, Since: o.Since, Problem: o.Problem}
	p := m.pools[r.Pool]
	if p != nil {
		d.Takeover = string(m.takeover(r, p))
	}
	if o.State == ownerFree {
		d.Would = "become the owner at once"
		return &d, nil
	}
	h, err := m.findHost(ctx, o.Host)
	if err != nil {
		return nil, err
	}
	d.Live, d.Suspect = live(h, o), h.Suspect && live(h, o)
	if o.Taker != nil {
		d.TakenBy = o.Taker.Host
	}
	d.OnSessionLoss, d.Guarded, d.LeaseTTL = string(o.Terms.OnSessionLoss), o.Terms.Guarded, o.Terms.LeaseTTL.String()
	if f := o.Terms.Fence; f != nil {
		d.Fence, d.Domain = f.Method, f.Identity.Domain
	}
	stored, err := m.proven(ctx, o)
	if err != nil {
		return nil, err
	}
	if stored.Version != 0 {
		d.Proof = stored.Key
	}
	if e, ok := m.entry(r.Name); ok && e.ID == r.ID {
		d.Lost = e.Lost
		if own, ok := m.owned(r.Name); ok && own.state.Deadline != coordination.Never {
			d.LeaseEnds = (own.state.Deadline - m.now()).Round(time.Millisecond).String()
		}
	}
	d.Would = m.would(r, p, o, d, stored)
	return &d, nil
}

// would says what a mount on this host would do, with the proof that was found.
func (m *Manager) would(r record, p *pool, o owner, d Owner, found coordination.Record) string {
	switch {
	case p == nil:
		return fmt.Sprintf("fail: host %q has no pool %q", m.cfg.Host, r.Pool)
	case d.ThisHost && o.State == ownerFencing:
		return "become the owner again, once nothing of it is left here"
	case d.ThisHost:
		return "go ahead: this host owns it"
	case d.Live:
		return fmt.Sprintf("wait for host %q to let go of it, for %v at most", o.Host, m.mountWait(r, p))
	}
	if err := m.permitted(r, p, o, found); err != nil {
		return "fail: " + err.Error()
	}
	if d.Proof != "" {
		return "take it over at once"
	}
	how, _, err := m.howTo(r, p, o)
	switch {
	case err != nil:
		return "fail: " + err.Error()
	case how == byLease:
		return fmt.Sprintf("take it over once host %q has been silent for %v", o.Host, o.Terms.leaseWait())
	}
	return "take it over: " + p.Fencer.Effect(fenceOf(o, r))
}

// Release takes a volume from a host that is silent, on an operator's word that
// it can write no more: that it is off, or its containers are stopped. from is
// its name, to make sure that it is the one that was meant. It returns
// ErrNotFound, ErrInvalid, ErrInUse if the host is live, or ErrUnavailable.
func (m *Manager) Release(ctx context.Context, name, from string) error {
	return simply(ctx, m, name, func(ctx context.Context) error {
		r, err := m.look(ctx, name)
		if err == nil {
			err = m.releaseFrom(ctx, r, from)
		}
		if err != nil {
			return fmt.Errorf("volume %.60q: %w", name, err)
		}
		return nil
	})
}

func (m *Manager) releaseFrom(ctx context.Context, r record, from string) error {
	if r.Access != AccessExclusive {
		return fmt.Errorf("it is %s, and has no owner: %w", r.Access, ErrInvalid)
	}
	o, err := m.loadOwner(ctx, r.ID)
	if err != nil {
		return err
	}
	p := m.pools[r.Pool]
	switch {
	case m.takeover(r, p) == TakeoverNever:
		return fmt.Errorf("its takeover is never: host %q gives it up itself, or when it is off for good, dvold host forget %s: %w", from, from, ErrInvalid)
	case o.State == ownerFree:
		return m.catchUp(ctx, r, p, o, from)
	case o.Host != from:
		return fmt.Errorf("it is %s, not by host %q: %w", o.names(), from, ErrInvalid)
	}
	h, err := m.findHost(ctx, o.Host)
	if err != nil {
		return err
	}
	e, known := m.entry(r.Name)
	switch ours := m.ofThisHost(o); {
	case ours && known && (e.mounted || len(e.Uses) > 0):
		return fmt.Errorf("it is mounted on this host: stop its containers: %w", ErrInUse)
	case !ours && live(h, o):
		return fmt.Errorf("it is %s, which is live: stop its containers there: %w", o.names(), ErrInUse)
	}
	if err := m.freed(ctx, r, o); err != nil {
		if errors.Is(err, coordination.ErrConflict) {
			err = unavailablef("its owner has changed just now: look, and try again")
		}
		return err
	}
	m.log.Warn("volume was released on an operator's word", "volume", r.Name, "pool", r.Pool, "from", o.Host, "incarnation", o.Incarnation, "epoch", o.Epoch)
	return nil
}

// freed writes that nobody owns a volume any more, because an operator vouches
// for its owner.
func (m *Manager) freed(ctx context.Context, r record, o owner) error {
	session, err := m.session()
	if err != nil {
		return err
	}
	against, err := m.loadProof(ctx, o, volumeDomain(o.Volume))
	if err != nil {
		return err
	}
	vouch, err := against.prove(byWord, caller{m.cfg.Host, session.Incarnation()}).put(o.Incarnation)
	if err != nil {
		return err
	}
	put, err := o.abandoned().put()
	if err != nil {
		return err
	}
	was, err := m.holdingOf(ctx, o.Host, r.Name)
	if err != nil {
		return err
	}
	_, err = m.commit(ctx, append(was.delete(o.Host, r.Name), put, vouch)...)
	return err
}

// vouchFor frees a volume that a host owns which an operator vouches for.
func (m *Manager) vouchFor(ctx context.Context, host, name string) error {
	h, err := m.holderOf(ctx, host, name)
	if err != nil || h.Access != AccessExclusive {
		return err
	}
	o, err := m.loadOwner(ctx, h.Volume)
	if err != nil || o.State == ownerFree || o.Host != host || h.HostID != "" && h.HostID != o.HostID {
		return err
	}
	return m.freed(ctx, record{Name: name, ID: h.Volume}, o)
}
