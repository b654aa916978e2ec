package volumes

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/coordination"
)

// proof is the record at fences/<host>/<incarnation>/<domain> that a host, in
// that stay in the cluster or an earlier one of the same boot, can write no more
// to a domain. It covers exactly what was cut off, which may be more than the
// volume that it was made for, and never less.
type proof struct {
	Schema int             `json:"schema"`
	Host   string          `json:"host"`
	HostID string          `json:"host_id"`
	Domain string          `json:"domain"`
	Method string          `json:"method"` // a fencer's, or one of the constants
	By     caller          `json:"by"`
	At     time.Time       `json:"at"`
	Fence  *backends.Fence `json:"fence,omitempty"` // what is to be undone once the host is clean
	Op     string          `json:"op"`
}

// Methods of proofs that no fencer makes.
const (
	byLease  = "lease"  // the host was silent so long that it has cut itself off
	byWord   = "manual" // an operator vouched for it
	hostWide = "host"   // the domain that covers everything
)

func volumeDomain(id string) string { return "volume/" + id }

func proofsAgainst(host string) string { return "fences/" + host + "/" }

func proofKey(host string, incarnation uint64, domain string) string {
	return fmt.Sprintf("fences/%s/%d/%s", host, incarnation, domain)
}

// domains are those that cover a volume of an owner.
func (o owner) domains() []string {
	all := []string{hostWide, volumeDomain(o.Volume)}
	if f := o.Terms.Fence; f != nil && !slices.Contains(all, f.Identity.Domain) {
		all = append(all, f.Identity.Domain)
	}
	return all
}

// accepts tells whether a proof of that method is good enough for what the owner
// promised.
func (o owner) accepts(method string) bool { return method != byLease || o.Terms.byLease() }

// proven returns a proof that the owner can write no more to the volume, as it
// is stored, or none, at version 0.
func (m *Manager) proven(ctx context.Context, o owner) (coordination.Record, error) {
	for _, domain := range o.domains() {
		stored, err := m.stored(ctx, proofKey(o.Host, o.Incarnation, domain))
		if err != nil {
			return stored, err
		}
		if stored.Version == 0 {
			continue
		}
		var p proof
		if err := unmarshal(fmt.Sprintf("record %q", stored.Key), stored.Value, recordSchema, &p); err != nil {
			return stored, err
		}
		if p.HostID == o.HostID && p.Domain == domain && o.accepts(p.Method) {
			return stored, nil
		}
	}
	return coordination.Record{}, nil
}

// unproven requires that there is no proof against an owner.
func (o owner) unproven() []coordination.Op {
	var ops []coordination.Op
	for _, domain := range o.domains() {
		ops = append(ops, coordination.Check(coordination.Record{Key: proofKey(o.Host, o.Incarnation, domain)}))
	}
	return ops
}

// newProof is the operation that writes a proof against an owner, over what is
// stored of an unacceptable one.
func (m *Manager) newProof(ctx context.Context, session coordination.Session, o owner, domain, method string, fence *backends.Fence) (coordination.Op, error) {
	key := proofKey(o.Host, o.Incarnation, domain)
	stored, err := m.stored(ctx, key)
	if err != nil {
		return coordination.Op{}, err
	}
	value, err := marshal(proof{
		Schema: recordSchema, Host: o.Host, HostID: o.HostID, Domain: domain, Method: method,
		By: caller{m.cfg.Host, session.Incarnation()}, At: time.Now().UTC(), Fence: fence, Op: newOp(),
	}, nil)
	if err != nil {
		return coordination.Op{}, err
	}
	return coordination.Put(coordination.Record{Key: key, Value: value, Version: stored.Version}), nil
}
