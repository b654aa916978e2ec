package embedded

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"github.com/dvol/dvold/coordination"
)

// session is the stay of a host. It is live until its context ends, which
// happens under the Store's writer lock.
type session struct {
	store       *Store
	host        coordination.Host
	ctx         context.Context
	end         context.CancelCauseFunc
	incarnation uint64
}

var _ coordination.Session = (*session)(nil)

// hostEntry is what the file has of a host.
type hostEntry struct {
	ID          string    `json:"id"`
	Boot        string    `json:"boot"`
	Incarnation uint64    `json:"incarnation"`
	Since       time.Time `json:"since"`
	Version     uint64    `json:"version"`
	Forgotten   bool      `json:"forgotten,omitempty"` // kept for Incarnation alone
}

// Join announces h as live, with the incarnation after its last.
func (s *Store) Join(ctx context.Context, h coordination.Host) (coordination.Session, error) {
	if h.Name == "" || h.ID == "" {
		return nil, fmt.Errorf("join as %q: a host needs a name and an ID", h.Name)
	}
	if err := s.lock(ctx); err != nil {
		return nil, fmt.Errorf("join as %s: %w", h.Name, err)
	}
	defer s.unlock()
	s.mu.Lock()
	old := s.sessions[h.Name]
	s.mu.Unlock()
	if old != nil && old.host.ID != h.ID {
		return nil, fmt.Errorf("join as %s: another machine of that name (ID %s) is live: %w", h.Name, old.host.ID, coordination.ErrConflict)
	}
	incarnation, err := s.enter(h)
	if err != nil {
		return nil, fmt.Errorf("join as %s: %w", h.Name, err)
	}
	e := &session{store: s, host: h, incarnation: incarnation}
	e.ctx, e.end = context.WithCancelCause(context.WithoutCancel(ctx))
	s.mu.Lock()
	s.sessions[h.Name] = e
	s.mu.Unlock()
	if old != nil {
		old.end(coordination.ErrSessionLost)
	}
	s.log.InfoContext(ctx, "joined", "host", h.Name, "incarnation", incarnation, "takeover", old != nil)
	return e, nil
}

// enter records a new incarnation of h and returns it.
func (s *Store) enter(h coordination.Host) (uint64, error) {
	entry := hostEntry{}
	err := s.update(func(tx *bbolt.Tx, version uint64) error {
		hosts := tx.Bucket(hostsBucket)
		if stored := hosts.Get([]byte(h.Name)); stored != nil {
			if err := json.Unmarshal(stored, &entry); err != nil {
				return err
			}
		}
		entry = hostEntry{
			ID:          h.ID,
			Boot:        h.Boot,
			Incarnation: entry.Incarnation + 1,
			Since:       time.Now().UTC(),
			Version:     version,
		}
		stored, err := json.Marshal(entry)
		if err != nil {
			return err
		}
		return hosts.Put([]byte(h.Name), stored)
	})
	return entry.Incarnation, err
}

// Hosts lists the hosts that ever joined and were not forgotten, by name.
func (s *Store) Hosts(ctx context.Context) ([]coordination.Host, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list hosts: %w", err)
	}
	var hosts []coordination.Host
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(hostsBucket).ForEach(func(name, stored []byte) error {
			var entry hostEntry
			if err := json.Unmarshal(stored, &entry); err != nil {
				return fmt.Errorf("host %s: %w", name, err)
			}
			if entry.Forgotten {
				return nil
			}
			hosts = append(hosts, coordination.Host{
				Name:        string(name),
				ID:          entry.ID,
				Boot:        entry.Boot,
				Incarnation: entry.Incarnation,
				Since:       entry.Since,
				Version:     entry.Version,
			})
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list hosts: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, h := range hosts {
		e := s.sessions[h.Name]
		hosts[i].Live = e != nil && e.incarnation == h.Incarnation
	}
	return hosts, nil
}

// Host returns one of Hosts.
func (s *Store) Host(ctx context.Context, name string) (coordination.Host, error) {
	hosts, err := s.Hosts(ctx)
	if err != nil {
		return coordination.Host{}, err
	}
	for _, h := range hosts {
		if h.Name == name {
			return h, nil
		}
	}
	return coordination.Host{}, fmt.Errorf("get host %s: %w", name, coordination.ErrNotFound)
}

// Incarnation numbers this stay of the host.
func (e *session) Incarnation() uint64 { return e.incarnation }

// Deadline is Never: the session lasts as long as its process has the file.
func (e *session) Deadline() time.Duration { return coordination.Never }

// Renewed is nil.
func (e *session) Renewed() <-chan struct{} { return nil }

// TTL is 0.
func (e *session) TTL() time.Duration { return 0 }

// Context ends with the session, with cause ErrSessionLost.
func (e *session) Context() context.Context { return e.ctx }

// Abandon is Close: nobody else knows of the session.
func (e *session) Abandon() { _ = e.Close(context.Background()) }

// Close ends the session. After it returned, nothing the session was asked to
// commit can still happen.
func (e *session) Close(ctx context.Context) error {
	if e.ctx.Err() != nil {
		return nil
	}
	if err := e.store.lock(ctx); err != nil {
		return fmt.Errorf("end the session of %s: %w", e.host.Name, err)
	}
	defer e.store.unlock()
	if e.ctx.Err() != nil {
		return nil
	}
	e.store.mu.Lock()
	delete(e.store.sessions, e.host.Name)
	e.store.mu.Unlock()
	e.end(coordination.ErrSessionLost)
	e.store.log.InfoContext(ctx, "left", "host", e.host.Name, "incarnation", e.incarnation)
	return nil
}
