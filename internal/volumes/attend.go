package volumes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dvol/dvold/coordination"
)

// attend answers what other hosts ask of this one.
func (m *Manager) attend() {
	defer m.calls.Done()
	for found, err := range m.coord.Watch(m.background, requestsTo(m.cfg.Host)) {
		if err != nil {
			continue
		}
		for _, stored := range found {
			var q request
			if err := unmarshal(fmt.Sprintf("record %q", stored.Key), stored.Value, recordSchema, &q); err != nil {
				m.log.Warn("a request was not understood", "err", err)
				continue
			}
			if q.Answer == "" {
				m.reply(stored, q)
			}
		}
	}
}

// reply answers one request, and lets go of the volume if nothing uses it.
func (m *Manager) reply(stored coordination.Record, q request) {
	ctx, cancel := context.WithTimeout(m.background, 4*patience)
	defer cancel()
	asker, err := m.alive(ctx, q.By)
	if err != nil {
		return
	}
	if !asker { // it died before it could take the request back
		if _, err := m.commit(ctx, coordination.Delete(stored)); ignoreConflict(err) != nil {
			m.log.Debug("a request was left", "key", stored.Key, "err", err)
		}
		return
	}
	q.Answer = m.answerTo(q)
	value, err := marshal(q, stored.Value)
	if err == nil {
		_, err = m.commit(ctx, coordination.Put(coordination.Record{Key: stored.Key, Value: value, Version: stored.Version}))
	}
	if ignoreConflict(err) != nil {
		m.log.Warn("a request was not answered", "volume", q.Name, "by", q.By.Host, "err", err)
	}
}

// answerTo is what this host says to a request.
func (m *Manager) answerTo(q request) string {
	e, ok := m.entry(q.Name)
	switch {
	case !ok || e.ID != q.ID:
		m.later(&m.unsettled) // the records say otherwise
		return "it does not have it mounted"
	case e.Lost != "":
		return "it is being cut off from it"
	}
	live := e.live()
	if len(live.Uses) == 0 {
		m.poke()
		return "nothing uses it there, and it is about to let go of it"
	}
	var since time.Time
	for _, u := range live.Uses {
		if since.IsZero() || u.Since.Before(since) {
			since = u.Since
		}
	}
	return fmt.Sprintf("%s, since %s", containers(len(live.Uses)), since.Local().Format(time.DateTime))
}

func containers(n int) string {
	if n == 1 {
		return "a container uses it there"
	}
	return fmt.Sprintf("%d containers use it there", n)
}

// heed looks for records that this host was, or is being, cut off by others, and
// gives up what they took. If that is about its present stay in the cluster it
// begins another: so it is known what it owned before, and must be rid of, and
// what after.
func (m *Manager) heed() {
	defer m.calls.Done()
	for found := range m.coord.Watch(m.background, proofsAgainst(m.cfg.Host)) {
		session, err := m.session()
		if err != nil || len(found) == 0 {
			continue
		}
		m.later(&m.fenced)
		for _, e := range m.exclusiveEntries() {
			if o, ok := m.owned(e.Name); ok && o.incarnation == session.Incarnation() {
				m.recheck(e)
			}
		}
		if slices.ContainsFunc(found, func(s coordination.Record) bool { return m.isAgainst(s, session.Incarnation()) }) {
			m.log.Error("this host was cut off by another, though its session goes on: it joins the cluster anew", "incarnation", session.Incarnation())
			session.Abandon() // not Close: others would take the host for silent until it has joined
		}
	}
}

// isAgainst tells whether a record is about this host in that stay.
func (m *Manager) isAgainst(stored coordination.Record, incarnation uint64) bool {
	p, err := decodeProof(stored)
	if err != nil || p.HostID != m.me.ID {
		return false
	}
	about, err := incarnationOf(stored.Key, m.cfg.Host)
	return err == nil && about == incarnation
}

// recheck reads whose a volume is that this host has mounted.
func (m *Manager) recheck(e entry) {
	ctx, cancel := context.WithTimeout(m.background, 4*patience)
	defer cancel()
	o, err := m.loadOwner(ctx, e.ID)
	if err != nil {
		m.log.Warn("could not find out whose a volume is", "volume", e.Name, "err", err)
		return
	}
	known, ok := m.owned(e.Name)
	if !ok || known.id != e.ID || m.ofThisHost(o) && o.State != ownerFencing {
		return
	}
	err = m.lose(e, fmt.Sprintf("it is %s", lostTo(o)))
	if err != nil && !errors.Is(err, context.Canceled) {
		m.log.Error("a volume that is lost was not given up", "volume", e.Name, "err", err)
	}
}
