package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/dvol/dvold/coordination"
)

// versionSize is the length of the version that begins each stored value.
const versionSize = 8

// Get returns the record at key, or ErrNotFound.
func (s *Store) Get(ctx context.Context, key string) (coordination.Record, error) {
	if err := ctx.Err(); err != nil {
		return coordination.Record{}, fmt.Errorf("get %s: %w", key, err)
	}
	var record coordination.Record
	err := s.db.View(func(tx *bbolt.Tx) error {
		stored := tx.Bucket(recordsBucket).Get([]byte(key))
		if stored == nil {
			return coordination.ErrNotFound
		}
		record = decode([]byte(key), stored)
		return nil
	})
	if err != nil {
		return coordination.Record{}, fmt.Errorf("get %s: %w", key, err)
	}
	return record, nil
}

// List returns the records whose keys begin with prefix, ordered by key.
func (s *Store) List(ctx context.Context, prefix string) ([]coordination.Record, error) {
	var records []coordination.Record
	err := s.scan(ctx, prefix, func(key, stored []byte) {
		records = append(records, decode(key, stored))
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", prefix, err)
	}
	return records, nil
}

// Keys is List without the values.
func (s *Store) Keys(ctx context.Context, prefix string) ([]string, error) {
	var keys []string
	err := s.scan(ctx, prefix, func(key, _ []byte) {
		keys = append(keys, string(key))
	})
	if err != nil {
		return nil, fmt.Errorf("list keys %s: %w", prefix, err)
	}
	return keys, nil
}

// scan calls visit with what is stored for each key that begins with prefix,
// in order. The slices are valid during the call only.
func (s *Store) scan(ctx context.Context, prefix string, visit func(key, stored []byte)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(recordsBucket).Cursor()
		for k, v := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			visit(k, v)
		}
		return nil
	})
}

func encode(version uint64, value []byte) []byte {
	stored := make([]byte, 0, versionSize+len(value))
	return append(binary.BigEndian.AppendUint64(stored, version), value...)
}

func decode(key, stored []byte) coordination.Record {
	return coordination.Record{
		Key:     string(key),
		Value:   bytes.Clone(stored[versionSize:]),
		Version: binary.BigEndian.Uint64(stored),
	}
}
