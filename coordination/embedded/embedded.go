// Package embedded coordinates the one host that holds its file.
//
// All records lie in a bbolt file, which one process at a time can have open;
// so whoever holds it is the whole cluster, and a session lives as long as the
// process does not end it. What a method reports as done is on the disk.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/dvol/dvold/coordination"
)

// Config says where the records are kept.
type Config struct {
	// Path of the file, on a disk of this host. It is made if there is none.
	Path string
}

// Store is a Coordinator on a file. Waiting for other writers obeys ctx; the
// write to the disk itself is not interrupted, so that its outcome is known.
type Store struct {
	db  *bbolt.DB
	log *slog.Logger

	// writer is held by the one that changes records or sessions. Sessions
	// end only under it, so none ends in the middle of its own commit.
	writer chan struct{}
	closed chan struct{}

	mu       sync.Mutex // guards the fields below
	sessions map[string]*session
	watchers map[*watcher]struct{}
}

var _ coordination.Coordinator = (*Store)(nil)

// Open opens the file, or makes it and the directories above it, readable by
// root alone. A file that is in use, damaged, of a newer schema or not dvold's
// is refused within about a second and left as it is.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open coordination file %s: %w", cfg.Path, err)
	}
	db, err := openFile(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("open coordination file %s: %w", cfg.Path, err)
	}
	return &Store{
		db:       db,
		log:      log,
		writer:   make(chan struct{}, 1),
		closed:   make(chan struct{}),
		sessions: make(map[string]*session),
		watchers: make(map[*watcher]struct{}),
	}, nil
}

// Close ends the sessions that are left and every Watch, and releases the
// file. A closed Store is closed again without error.
func (s *Store) Close() error {
	s.writer <- struct{}{}
	defer s.unlock()
	s.mu.Lock()
	for name, e := range s.sessions {
		delete(s.sessions, name)
		e.end(coordination.ErrSessionLost)
	}
	s.mu.Unlock()
	select {
	case <-s.closed:
		return nil
	default:
		close(s.closed)
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close coordination file: %w", err)
	}
	return nil
}

// lock makes the caller the writer, unless ctx ends first.
func (s *Store) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s.writer <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) unlock() { <-s.writer }

// update runs fn in a transaction, which fn's error undoes, with the version
// of all that it changes. It returns ErrUnavailable if nothing was changed and
// ErrUnknown if the change is there but perhaps not on the disk. The caller is
// the writer.
func (s *Store) update(fn func(tx *bbolt.Tx, version uint64) error) error {
	tx, err := s.db.Begin(true)
	if err != nil {
		return fmt.Errorf("%w: %w", coordination.ErrUnavailable, err)
	}
	defer func() { _ = tx.Rollback() }() // of no effect after Commit
	version, err := tx.Bucket(recordsBucket).NextSequence()
	if err != nil {
		return fmt.Errorf("%w: %w", coordination.ErrUnavailable, err)
	}
	if err := fn(tx, version); err != nil {
		return err
	}
	err = tx.Commit()
	if err == nil {
		return nil
	}
	// bbolt syncs the data before it writes the page that makes them valid,
	// so while that page is the old one, the old records are all there is.
	var last uint64
	if viewErr := s.db.View(func(tx *bbolt.Tx) error {
		last = tx.Bucket(recordsBucket).Sequence()
		return nil
	}); viewErr != nil || last >= version {
		return fmt.Errorf("%w: %w", coordination.ErrUnknown, errors.Join(err, viewErr))
	}
	return fmt.Errorf("%w: %w", coordination.ErrUnavailable, err)
}
