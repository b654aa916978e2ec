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
//
// For a fence it is made before that, without being Proven: whatever becomes of
// the taker, the host finds out that it may have been cut off, has nothing of
// the domain before the fence is undone, and undoes it.
type proof struct {
	Schema int             `json:"schema"`
	Host   string          `json:"host"`
	HostID string          `json:"host_id"`
	Domain string          `json:"domain"`
	Proven bool            `json:"proven"`
	Method string          `json:"method"` // a fencer's, or one of the constants
	By     caller          `json:"by"`
	At     time.Time       `json:"at"`
	Fence  *backends.Fence `json:"fence,omitempty"`   // what is to be undone once the host is clean,
	UndoBy string          `json:"undo_by,omitempty"` // and by which fencer's method
	Taker  *caller         `json:"taker,omitempty"`   // whose fence may be under way
	Op     string          `json:"op"`

	version uint64
	stored  []byte
}

// Methods of proofs that no fencer makes.
const (
	byLease  = "lease"  // the host was silent so long that it has cut itself off
	byWord   = "manual" // an operator vouched for it
	byItself = "own"    // the host itself, which is back, has nothing of it left
)

const hostWide = "host" // the domain that covers everything

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

// loadProof returns what is recorded against an owner for a domain, or an empty
// record that is yet to be written.
func (m *Manager) loadProof(ctx context.Context, o owner, domain string) (proof, error) {
	stored, err := m.stored(ctx, proofKey(o.Host, o.Incarnation, domain))
	if err != nil {
		return proof{}, err
	}
	if stored.Version == 0 {
		return proof{Host: o.Host, HostID: o.HostID, Domain: domain}, nil
	}
	return decodeProof(stored)
}

func decodeProof(stored coordination.Record) (proof, error) {
	var p proof
	err := unmarshal(fmt.Sprintf("record %q", stored.Key), stored.Value, recordSchema, &p)
	p.version, p.stored = stored.Version, stored.Value
	return p, err
}

// put writes the record over the version it was read at.
func (p proof) put(incarnation uint64) (coordination.Op, error) {
	p.Schema, p.Op = recordSchema, newOp()
	value, err := marshal(p, p.stored)
	if err != nil {
		return coordination.Op{}, fmt.Errorf("encode the proof against host %s: %w", p.Host, err)
	}
	return coordination.Put(coordination.Record{Key: proofKey(p.Host, incarnation, p.Domain), Value: value, Version: p.version}), nil
}

// prove is p once it is true, by a method and a host.
func (p proof) prove(method string, by caller) proof {
	p.Proven, p.Method, p.By, p.At = true, method, by, time.Now().UTC()
	return p
}

// proven returns a proof that the owner can write no more to the volume, as it
// is stored, or none, at version 0.
func (m *Manager) proven(ctx context.Context, o owner) (coordination.Record, error) {
	for _, domain := range o.domains() {
		p, err := m.loadProof(ctx, o, domain)
		if err != nil {
			return coordination.Record{}, err
		}
		if p.version != 0 && p.Proven && p.HostID == o.HostID && p.Domain == domain && o.accepts(p.Method) {
			return coordination.Record{Key: proofKey(o.Host, o.Incarnation, domain), Value: p.stored, Version: p.version}, nil
		}
	}
	return coordination.Record{}, nil
}

// unfenced requires that nothing is recorded against an owner: neither a proof
// nor that a fence may be under way.
func (o owner) unfenced() []coordination.Op {
	var ops []coordination.Op
	for _, domain := range o.domains() {
		ops = append(ops, coordination.Check(coordination.Record{Key: proofKey(o.Host, o.Incarnation, domain)}))
	}
	return ops
}
