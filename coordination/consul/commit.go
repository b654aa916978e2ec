package consul

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/dvol/dvold/coordination"
)

// A transaction whose answer is lost may have happened, may not, or may happen
// later, when a slow agent passes it on. So that it can be sent again, and at
// most one of the attempts is ever done, each of them also writes the session's
// "slot" by compare-and-set at the index the slot had before the first attempt:
// the first that is done moves the slot, whose index never comes back. Records
// alone would not do: a record made by the first attempt and then deleted would
// be made again by the second.
//
// The slot is written with the transaction's mark, a random number, so whoever
// reads it knows whether an attempt was done. To be sure that none ever will
// be, the slot is moved on with another mark.
//
// Each transaction also requires that the host's key is locked by the session:
// nothing of a session that is over, however late, is done.

const (
	slots     = 8               // transactions of one session at a time
	txnTime   = 3 * time.Second // for one attempt
	closeTime = 5 * time.Second
)

// slot is a key that one transaction after the other writes.
type slot struct {
	key   string
	known bool
	index uint64 // if known
}

// The first operations of each transaction that writes.
const (
	sessionOp = iota
	slotOp
)

func newMark() uint64 { return rand.Uint64() | 1 } // not 0, which is the mark of others' keys

func (s *Store) commitKey(host, n string) string {
	return s.cfg.Prefix + "/commits/" + host + "/" + n
}

// Commit does all of ops or none of them. It is sent again until its outcome
// is certain, for about ten seconds.
func (e *session) Commit(ctx context.Context, ops ...coordination.Op) ([]coordination.Record, error) {
	if err := coordination.Validate(ops); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	mark := newMark()
	kvs, writes := e.store.translate(ops, mark)
	if !writes {
		if err := e.check(ctx, kvs); err != nil {
			return nil, fmt.Errorf("commit: %w", err)
		}
		return nil, nil
	}
	version, err := e.apply(ctx, mark, kvs)
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	e.store.wrote(ops, version)
	// A put moves the version even if the value is the same, for the mark is
	// another. So all that is put has the version of the transaction.
	var put []coordination.Record
	for _, o := range ops {
		if o.Kind == coordination.OpPut {
			put = append(put, coordination.Record{Key: o.Record.Key, Value: bytes.Clone(o.Record.Value), Version: version})
		}
	}
	return put, nil
}

// translate puts ops in Consul's words, and tells whether any of them writes.
// A deletion takes two, for delete-cas finds no fault with a key that is gone.
func (s *Store) translate(ops []coordination.Op, mark uint64) (kvs api.KVTxnOps, writes bool) {
	for _, o := range ops {
		key, version := s.recordKey(o.Record.Key), o.Record.Version
		switch {
		case o.Kind == coordination.OpPut:
			kvs = append(kvs, &api.KVTxnOp{Verb: api.KVCAS, Key: key, Value: o.Record.Value, Flags: mark, Index: version})
		case o.Kind == coordination.OpCheck && version == 0:
			kvs = append(kvs, &api.KVTxnOp{Verb: api.KVCheckNotExists, Key: key})
		default:
			kvs = append(kvs, &api.KVTxnOp{Verb: api.KVCheckIndex, Key: key, Index: version})
		}
		if o.Kind == coordination.OpDelete {
			kvs = append(kvs, &api.KVTxnOp{Verb: api.KVDeleteCAS, Key: key, Index: version})
		}
		writes = writes || o.Kind != coordination.OpCheck
	}
	return kvs, writes
}

// sessionIsOurs is the operation that fences off whoever lost its session.
func (e *session) sessionIsOurs() *api.KVTxnOp {
	return &api.KVTxnOp{Verb: api.KVCheckSession, Key: e.key, Session: e.id}
}

// check does a transaction that changes nothing, and so may be repeated.
func (e *session) check(ctx context.Context, kvs api.KVTxnOps) error {
	whole, cancel := patient(ctx)
	defer cancel()
	for {
		if err := e.live(); err != nil {
			return err
		}
		out, f := e.store.client.txn(whole, append(api.KVTxnOps{e.sessionIsOurs()}, kvs...))
		switch {
		case f == nil && len(out.refused) == 0:
			return e.live()
		case f == nil && out.refused[sessionOp] != "":
			return e.fenced(out)
		case f == nil:
			return conflict(out)
		case ctx.Err() == nil && !f.final() && sleep(whole, pause):
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			return fmt.Errorf("%w: %w", coordination.ErrUnavailable, f)
		}
	}
}

// fenced ends the session because Consul says it has ended.
func (e *session) fenced(out outcome) error {
	e.lose("Consul refused a transaction: %s", out.refused[sessionOp])
	return context.Cause(e.ctx)
}

func conflict(out outcome) error {
	first := -1
	for i := range out.refused {
		if first < 0 || i < first {
			first = i
		}
	}
	return fmt.Errorf("%w: %s", coordination.ErrConflict, out.refused[first])
}

// apply does a transaction that writes, and returns its version.
func (e *session) apply(ctx context.Context, mark uint64, kvs api.KVTxnOps) (version uint64, err error) {
	whole, cancel := patient(ctx)
	defer cancel()
	var s *slot
	select {
	case s = <-e.slots:
		defer func() { e.slots <- s }()
	case <-whole.Done():
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return 0, fmt.Errorf("%w: too many transactions wait", coordination.ErrUnavailable)
	}
	a := &attempts{session: e, slot: s, mark: mark}
	version, err = a.run(whole, kvs)
	switch {
	case err == nil:
		return version, nil
	case a.open && ctx.Err() != nil:
		err = fmt.Errorf("%w: %w", coordination.ErrUnknown, ctx.Err())
	case a.open:
		err = fmt.Errorf("%w: %v", coordination.ErrUnknown, err) // not %w: it would say that nothing was changed
	case ctx.Err() != nil:
		err = ctx.Err()
	}
	return version, err
}

// attempts are those at one transaction.
type attempts struct {
	*session
	slot *slot
	mark uint64
	open bool // one of them may have been done, or may be done yet
}

// run attempts the transaction until ctx ends. If it returns an error, nothing
// was changed, or a.open says that this is unknown.
func (a *attempts) run(ctx context.Context, kvs api.KVTxnOps) (version uint64, err error) {
	for wait := pause; ; wait = min(2*wait, time.Second/2) {
		if err := a.live(); err != nil {
			return a.settle(ctx, err)
		}
		if !a.slot.known {
			found, err := a.store.pair(ctx, a.slot.key)
			if err != nil {
				return 0, err
			}
			a.slot.index, a.slot.known = found.ModifyIndex, true
			continue // that may have taken long
		}
		out, f := a.store.client.txn(ctx, append(api.KVTxnOps{sessionOp: a.sessionIsOurs(), slotOp: a.moveSlot(a.mark)}, kvs...))
		switch {
		case f == nil && len(out.refused) == 0:
			a.slot.index, a.open = out.index(a.slot.key), false
			return a.slot.index, nil
		case f == nil && out.refused[sessionOp] != "":
			return a.settle(ctx, a.fenced(out))
		case f == nil && out.refused[slotOp] != "":
			// An attempt was done; or a late one of an earlier transaction that
			// was left unknown, and then none of ours will be.
			version, err := a.lookup(ctx)
			if err != nil || version != 0 {
				return version, err
			}
			continue
		case f == nil:
			return a.settle(ctx, conflict(out))
		}
		a.open = a.open || !f.harmless()
		if f.status == http.StatusRequestEntityTooLarge {
			return a.settle(ctx, fmt.Errorf("%w: %w", coordination.ErrTooLarge, f))
		}
		if f.final() {
			return a.settle(ctx, fmt.Errorf("%w: %w", coordination.ErrUnavailable, f))
		}
		if !sleep(ctx, wait) {
			return 0, fmt.Errorf("%w: %w", coordination.ErrUnavailable, f)
		}
	}
}

func (a *attempts) moveSlot(mark uint64) *api.KVTxnOp {
	return &api.KVTxnOp{Verb: api.KVCAS, Key: a.slot.key, Value: []byte(a.id), Flags: mark, Index: a.slot.index}
}

// settle finds out what became of the attempts, and returns the version if one
// was done, and otherwise why, once none can be done any more.
func (a *attempts) settle(ctx context.Context, why error) (version uint64, err error) {
	for a.open {
		out, f := a.store.client.txn(ctx, api.KVTxnOps{a.moveSlot(newMark())})
		switch {
		case f == nil && len(out.refused) == 0:
			a.slot.index, a.open = out.index(a.slot.key), false
		case f == nil:
			version, err := a.lookup(ctx)
			if err != nil || version != 0 {
				return version, err
			}
		case f.final() || !sleep(ctx, pause):
			return 0, why
		}
	}
	return 0, why
}

// lookup reads a slot that has moved. It returns the version if an attempt was
// done; 0 and no error if none was, nor can be.
func (a *attempts) lookup(ctx context.Context) (version uint64, err error) {
	found, err := a.store.pair(ctx, a.slot.key)
	if err != nil {
		a.slot.known = false
		return 0, err
	}
	moved := found.ModifyIndex != a.slot.index
	a.slot.index = found.ModifyIndex
	switch {
	case found.Flags == a.mark:
		a.open = false
		return found.ModifyIndex, nil
	case a.open && string(found.Value) != a.id:
		// The session that came after ours uses the slot, or nobody does.
		return 0, fmt.Errorf("the slot of the transaction was used by another session")
	case moved:
		a.open = false
	}
	return 0, nil
}
