package volumes

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/coordination"
)

// claim is the record that adopted data belongs to one volume, at
// adopted/<pool>/<hash of the handle>. Adopting is rare, so all claims of a
// pool are serialised by a record of their own, adoptions/<pool>: what one
// adopter checked still holds when it writes.
type claim struct {
	Schema int    `json:"schema"`
	Handle string `json:"handle"`
	Volume string `json:"volume"`
}

func claimKey(pool, handle string) string {
	sum := sha256.Sum256([]byte(handle))
	return fmt.Sprintf("adopted/%s/%x", pool, sum[:16])
}

// claim returns the operations that claim r's handle, or ErrInUse if it is
// claimed already, or lies within a claimed directory, or around one.
func (m *Manager) claim(ctx context.Context, r record) ([]coordination.Op, error) {
	guard, err := m.stored(ctx, "adoptions/"+r.Pool)
	if err != nil {
		return nil, err
	}
	claims, err := m.coord.List(ctx, "adopted/"+r.Pool+"/")
	if err != nil {
		return nil, unavailable(err)
	}
	for _, stored := range claims {
		var c claim
		if err := unmarshal(fmt.Sprintf("record %q", stored.Key), stored.Value, recordSchema, &c); err != nil {
			return nil, err
		}
		if backends.Overlap(c.Handle, r.Handle) {
			return nil, fmt.Errorf("volume %q has adopted %q already: %w", c.Volume, c.Handle, ErrInUse)
		}
	}
	value, err := json.Marshal(claim{Schema: recordSchema, Handle: r.Handle, Volume: r.Name})
	if err != nil {
		return nil, err
	}
	return []coordination.Op{
		coordination.Put(coordination.Record{Key: "adoptions/" + r.Pool, Value: []byte(newOp()), Version: guard.Version}),
		coordination.Put(coordination.Record{Key: claimKey(r.Pool, r.Handle), Value: value}),
	}, nil
}

// unclaim returns the operations that end r's claim, if it has one.
func (m *Manager) unclaim(ctx context.Context, r record) ([]coordination.Op, error) {
	if !r.Adopted {
		return nil, nil
	}
	stored, err := m.stored(ctx, claimKey(r.Pool, r.Handle))
	if err != nil || stored.Version == 0 {
		return nil, err
	}
	return []coordination.Op{coordination.Delete(stored)}, nil
}
