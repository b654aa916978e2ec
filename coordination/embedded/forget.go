package embedded

import (
	"context"
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/dvol/dvold/coordination"
)

// Forget takes a host out of Hosts until it joins again. Its entry stays, for
// its incarnations go on counting.
func (e *session) Forget(ctx context.Context, h coordination.Host) error {
	s := e.store
	if err := s.lock(ctx); err != nil {
		return fmt.Errorf("forget host %s: %w", h.Name, err)
	}
	defer s.unlock()
	if e.ctx.Err() != nil {
		return fmt.Errorf("forget host %s: %w", h.Name, context.Cause(e.ctx))
	}
	s.mu.Lock()
	live := s.sessions[h.Name] != nil
	s.mu.Unlock()
	if live {
		return fmt.Errorf("forget host %s: it is live: %w", h.Name, coordination.ErrConflict)
	}
	err := s.update(func(tx *bbolt.Tx, version uint64) error {
		hosts := tx.Bucket(hostsBucket)
		var entry hostEntry
		if stored := hosts.Get([]byte(h.Name)); stored != nil {
			if err := json.Unmarshal(stored, &entry); err != nil {
				return err
			}
		}
		if entry.Version == 0 || entry.Version != h.Version {
			return coordination.ErrConflict
		}
		entry.Forgotten, entry.Version = true, version
		stored, err := json.Marshal(entry)
		if err != nil {
			return err
		}
		return hosts.Put([]byte(h.Name), stored)
	})
	if err != nil {
		return fmt.Errorf("forget host %s: %w", h.Name, err)
	}
	s.log.InfoContext(ctx, "forgot a host", "host", h.Name, "incarnation", h.Incarnation)
	return nil
}
