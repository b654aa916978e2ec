package consul

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/dvol/dvold/coordination"
)

// Join announces h as live. Its key is locked, or taken over from a session of
// the same machine, in one transaction that checks what was read before. If it
// fails, the session made for it is destroyed, as far as Consul can be reached;
// otherwise it ends by itself, and holds nothing.
func (s *Store) Join(ctx context.Context, h coordination.Host) (coordination.Session, error) {
	if h.Name == "" || h.ID == "" {
		return nil, fmt.Errorf("join as %q: a host needs a name and an ID", h.Name)
	}
	if !isHostName(h.Name) {
		return nil, fmt.Errorf("join as %q: not one word", h.Name)
	}
	e, err := s.join(ctx, h)
	if err != nil {
		return nil, fmt.Errorf("join as %s: %w", h.Name, err)
	}
	return e, nil
}

func (s *Store) join(ctx context.Context, h coordination.Host) (_ *session, err error) {
	whole, cancel := patient(ctx)
	defer cancel()
	whole, cancel = s.within(whole)
	defer cancel()
	e := &session{store: s, host: h, key: s.hostKey(h.Name)}
	var node string
	defer func() {
		if err != nil && e.id != "" {
			s.destroy(ctx, e.id)
		}
		if err != nil && ctx.Err() != nil {
			err = ended(ctx)
		}
	}()
	for {
		found, err := s.pair(whole, e.key)
		if err != nil {
			return nil, err
		}
		if e.id != "" && found.Session == e.id { // an answer was lost
			return e.start(ctx, found.Value), nil
		}
		entry := hostEntry{}
		if found.ModifyIndex != 0 {
			if entry, err = entryOf(found); err != nil {
				return nil, err
			}
		}
		if found.Session != "" && entry.ID != h.ID {
			return nil, fmt.Errorf("another machine of that name (ID %s) is live: %w", entry.ID, coordination.ErrConflict)
		}
		if e.id == "" {
			if node, err = s.agentNode(whole); err != nil {
				s.log.InfoContext(ctx, "other hosts won't be told when Consul finds this machine down", "host", h.Name, "reason", err)
			}
			// Consul's indexes only grow, also when an old snapshot is restored,
			// after which the entry tells of an earlier incarnation.
			if e.incarnation, err = e.create(whole); err != nil {
				return nil, err
			}
		}
		e.incarnation = max(entry.Incarnation+1, e.incarnation)
		value := hostEntry{Schema: hostSchema, ID: h.ID, Boot: h.Boot, Incarnation: e.incarnation, Since: time.Now().UTC(), Node: node}.encode()
		out, f := s.client.txn(whole, lock(found, e.key, e.id, value))
		if f == nil && len(out.refused) == 0 {
			if found.Session != "" {
				s.destroy(ctx, found.Session)
			}
			s.log.InfoContext(ctx, "joined", "host", h.Name, "incarnation", e.incarnation, "node", node, "takeover", found.Session != "")
			return e.start(ctx, value), nil
		}
		if f != nil && f.final() {
			return nil, fmt.Errorf("%w: %w", coordination.ErrUnavailable, f)
		}
		if !sleep(whole, pause) {
			return nil, ended(whole)
		}
	}
}

// lock returns the transaction that gives a host's key, as it was found, to a
// session. A lock that is passed on knows no lock-delay.
func lock(found *api.KVPair, key, session string, value []byte) api.KVTxnOps {
	lock := &api.KVTxnOp{Verb: api.KVLock, Key: key, Session: session, Value: value}
	switch {
	case found.ModifyIndex == 0:
		return api.KVTxnOps{{Verb: api.KVCheckNotExists, Key: key}, lock}
	case found.Session == "":
		return api.KVTxnOps{{Verb: api.KVCheckIndex, Key: key, Index: found.ModifyIndex}, lock}
	}
	return api.KVTxnOps{
		{Verb: api.KVCheckIndex, Key: key, Index: found.ModifyIndex},
		{Verb: api.KVUnlock, Key: key, Session: found.Session, Value: found.Value},
		lock,
	}
}

// create makes the host's node, if there is none, and a session on it, and
// returns Consul's index at that time. The lease begins before Consul hears of
// the session.
func (e *session) create(ctx context.Context) (index uint64, err error) {
	s := e.store
	node := s.node(e.host.Name)
	if err := s.client.repeat(ctx, readTime, func(consul *api.Client, q *api.QueryOptions) error {
		_, err := consul.Catalog().Register(&api.CatalogRegistration{
			Node:           node,
			Address:        "127.0.0.1", // Consul wants one, and nobody asks for it
			NodeMeta:       map[string]string{"external-source": "dvold"},
			SkipNodeUpdate: true,
		}, writing(q))
		return err
	}); err != nil {
		return 0, fmt.Errorf("register node %s: %w", node, err)
	}
	e.lease = lease{ttl: s.cfg.TTL, renewed: s.now()}
	if err := s.client.repeat(ctx, readTime, func(consul *api.Client, q *api.QueryOptions) (err error) {
		e.id, _, err = consul.Session().CreateNoChecks(&api.SessionEntry{
			Name:      "dvold " + e.host.Name,
			Node:      node,
			TTL:       s.cfg.TTL.String(),
			Behavior:  api.SessionBehaviorRelease,
			LockDelay: time.Millisecond, // transactions check what was read instead; 0 would be 15 s
		}, writing(q))
		return err
	}); err != nil {
		return 0, fmt.Errorf("create a session: %w", err)
	}
	var made *api.SessionEntry
	if err := s.client.repeat(ctx, readTime, func(consul *api.Client, q *api.QueryOptions) (err error) {
		q.RequireConsistent = true
		made, _, err = consul.Session().Info(e.id, q)
		return err
	}); err != nil {
		return 0, fmt.Errorf("read the session: %w", err)
	}
	if made == nil {
		return 0, fmt.Errorf("read the session: %w: it is gone", coordination.ErrUnavailable)
	}
	return made.CreateIndex, nil
}

// destroy destroys a session that nobody needs any more, even if ctx has ended.
func (s *Store) destroy(ctx context.Context, id string) {
	if f := s.client.try(context.WithoutCancel(ctx), readTime, func(consul *api.Client, q *api.QueryOptions) error {
		_, err := consul.Session().Destroy(id, writing(q))
		return err
	}); f != nil {
		s.log.InfoContext(ctx, "a session is left to Consul, which will end it", "session", id, "error", f)
	}
}
