package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/dvol/dvold/coordination"
)

// Commit does all of ops or none of them. Without ops it tells whether the
// session is live.
func (e *session) Commit(ctx context.Context, ops ...coordination.Op) ([]coordination.Record, error) {
	if err := coordination.Validate(ops); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	s := e.store
	if err := s.lock(ctx); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	defer s.unlock()
	if e.ctx.Err() != nil {
		return nil, fmt.Errorf("commit: %w", context.Cause(e.ctx))
	}
	if len(ops) == 0 {
		return nil, nil
	}
	var put []coordination.Record
	var changed []string
	err := s.update(func(tx *bbolt.Tx, version uint64) error {
		for _, op := range ops {
			if err := apply(tx.Bucket(recordsBucket), op, version); err != nil {
				return fmt.Errorf("%s: %w", op.Record.Key, err)
			}
			if op.Kind != coordination.OpCheck {
				changed = append(changed, op.Record.Key)
			}
			if op.Kind == coordination.OpPut {
				put = append(put, coordination.Record{Key: op.Record.Key, Value: bytes.Clone(op.Record.Value), Version: version})
			}
		}
		return nil
	})
	if err == nil || errors.Is(err, coordination.ErrUnknown) {
		s.notify(changed)
	}
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return put, nil
}

// apply does op, which Validate found right, or returns ErrConflict.
func apply(records *bbolt.Bucket, op coordination.Op, version uint64) error {
	key := []byte(op.Record.Key)
	var have uint64
	if stored := records.Get(key); stored != nil {
		have = binary.BigEndian.Uint64(stored)
	}
	if have != op.Record.Version || op.Kind == coordination.OpDelete && have == 0 {
		return coordination.ErrConflict
	}
	switch op.Kind {
	case coordination.OpPut:
		return records.Put(key, encode(version, op.Record.Value))
	case coordination.OpDelete:
		return records.Delete(key)
	}
	return nil
}
