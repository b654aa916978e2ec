package volumes

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/dvol/dvold/coordination"
)

// holder is the record at holders/<volume>/<host> that a host has a volume
// mounted. It outlives the host's session on purpose: silence proves that a
// host stopped reporting, not that it stopped writing. With it comes an empty
// one at holdings/<host>/<volume>, by which a host finds its own.
type holder struct {
	Schema      int       `json:"schema"`
	Host        string    `json:"host"`
	HostID      string    `json:"host_id"`
	Boot        string    `json:"boot,omitempty"` // of the host's kernel
	Incarnation uint64    `json:"incarnation"`
	Volume      string    `json:"volume"` // its ID
	Access      Access    `json:"access"`
	Since       time.Time `json:"since"`
}

// holding is what this host wrote for a volume that it holds.
type holding struct {
	id              string // of the volume
	holder, reverse uint64 // versions
}

func holderKey(name, host string) string  { return "holders/" + name + "/" + host }
func holdingKey(host, name string) string { return "holdings/" + host + "/" + name }
func drainKey(host string) string         { return "drains/" + host }

// hold writes down that this host holds a volume, in a transaction that also
// requires that the volume is as in r and nobody is about to change it. It
// returns the record as it is by then, ErrNotFound, or ErrUnavailable, also if
// this host is being drained and the volume is not mounted here yet. The caller
// holds the volume's lock.
func (m *Manager) hold(ctx context.Context, r record) (record, error) {
	if h, ok := m.holds(r.Name); ok && h.id == r.ID {
		return r, nil
	}
	e, _ := m.entry(r.Name)
	mounted := len(e.Uses) > 0
	var own holding // versions of what an earlier stay may have left
	for range 10 {
		ops, err := m.holdOps(r, own)
		if err != nil {
			return r, err
		}
		ops = append(ops, unchanged(r)...)
		if !mounted {
			ops = append(ops, coordination.Check(coordination.Record{Key: drainKey(m.cfg.Host)}))
		}
		written, err := m.commitSoon(ctx, ops...)
		if err == nil {
			m.setHolding(r.Name, holding{r.ID, written[0].Version, written[1].Version})
			return r, nil
		}
		if !errors.Is(err, coordination.ErrConflict) {
			return r, fmt.Errorf("write down that this host holds it: %w", err)
		}
		if err := m.undrained(ctx); err != nil && !mounted {
			return r, err
		}
		if err := m.notAnothers(ctx, r.Name); err != nil {
			return r, err
		}
		patient, cancel := context.WithTimeout(ctx, intentPatience)
		err = m.clear(patient, r.Name)
		cancel()
		if err != nil {
			return r, err
		}
		if r, err = m.existing(ctx, r.Name); err != nil {
			return r, err
		}
		if own, err = m.holdingOf(ctx, m.cfg.Host, r.Name); err != nil {
			return r, err
		}
	}
	return r, unavailablef("its records change too often: try again")
}

// holdOps are the two operations that write down that this host holds a volume, the
// holder's record first.
func (m *Manager) holdOps(r record, own holding) ([]coordination.Op, error) {
	session, err := m.session()
	if err != nil {
		return nil, err
	}
	value, err := marshal(holder{
		Schema: recordSchema, Host: m.cfg.Host, HostID: m.me.ID, Boot: m.me.Boot, Incarnation: session.Incarnation(),
		Volume: r.ID, Access: r.Access, Since: time.Now().UTC(),
	}, nil)
	if err != nil {
		return nil, err
	}
	return []coordination.Op{
		coordination.Put(coordination.Record{Key: holderKey(r.Name, m.cfg.Host), Value: value, Version: own.holder}),
		coordination.Put(coordination.Record{Key: holdingKey(m.cfg.Host, r.Name), Value: []byte(newOp()), Version: own.reverse}),
	}, nil
}

// unchanged are the operations that check that a volume is as in r, and nobody is about to
// change it.
func unchanged(r record) []coordination.Op {
	return []coordination.Op{coordination.Check(coordination.Record{Key: volumeKey(r.Name), Version: r.version}), noIntent(r.Name)}
}

// holdingOf reads the versions of what a host wrote for a volume, 0 for none.
func (m *Manager) holdingOf(ctx context.Context, host, name string) (h holding, err error) {
	for key, version := range map[string]*uint64{holderKey(name, host): &h.holder, holdingKey(host, name): &h.reverse} {
		stored, err := m.stored(ctx, key)
		if err != nil {
			return h, err
		}
		*version = stored.Version
	}
	return h, nil
}

// letGo writes down that this host does not hold a volume any more. It does not
// wait long: what fails is done when the sweeper compares the records with the
// journal. The caller holds the volume's lock.
func (m *Manager) letGo(ctx context.Context, name string) {
	h, ok := m.holds(name)
	if !ok {
		m.later(&m.unsettled) // the records may say so all the same
		return
	}
	m.mu.Lock()
	delete(m.holdings, name)
	m.mu.Unlock()
	if _, err := m.commitSoon(context.WithoutCancel(ctx), h.delete(m.cfg.Host, name)...); err != nil {
		m.log.Debug("the records say for a while that this host holds a volume", "volume", name, "err", err)
		m.later(&m.unsettled)
	}
}

// notAnothers returns ErrUnavailable if the record that this host holds a volume is that of
// another machine, which had its name and may hold the volume still.
func (m *Manager) notAnothers(ctx context.Context, name string) error {
	h, err := m.holderOf(ctx, m.cfg.Host, name)
	if err != nil || h.by(m.me) {
		return err
	}
	return unavailablef("another machine that had the name of host %q may have it mounted still, since %s: bring that one back under another name, or when it is off for good, dvold host forget %s",
		m.cfg.Host, h.Since.Local().Format(time.DateTime), m.cfg.Host)
}

// by tells whether the record may be of that host. Its name alone is not enough: it may
// have been given to another machine. Its ID alone is none, either: it may have lost its state.
func (h holder) by(host coordination.Host) bool {
	return h.HostID == "" || h.HostID == host.ID || h.Boot != "" && h.Boot == host.Boot
}

// delete ends a host's holding of a volume, of which there may be a part only.
func (h holding) delete(host, name string) []coordination.Op {
	var ops []coordination.Op
	for key, version := range map[string]uint64{holderKey(name, host): h.holder, holdingKey(host, name): h.reverse} {
		if version != 0 {
			ops = append(ops, coordination.Delete(coordination.Record{Key: key, Version: version}))
		}
	}
	return ops
}

// holds returns what this host wrote down for a volume, if it has.
func (m *Manager) holds(name string) (holding, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	h, ok := m.holdings[name]
	return h, ok
}

func (m *Manager) setHolding(name string, h holding) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.holdings[name] = h
}

// Holder is a host that has a volume mounted, or had when it reported last.
type Holder struct {
	Host     string    `json:"host"`
	ThisHost bool      `json:"this_host"`
	Live     bool      `json:"live"` // one that isn't may still write
	Since    time.Time `json:"since"`
}

// holdersOf lists the hosts that hold a volume, by name, or returns
// ErrUnavailable.
func (m *Manager) holdersOf(ctx context.Context, name string) ([]Holder, error) {
	all := []Holder{}
	if CheckName(name) != nil {
		return all, nil
	}
	stored, err := m.coord.List(ctx, holderKey(name, ""))
	if err != nil {
		return nil, fmt.Errorf("volume %q: list its holders: %w", name, unavailable(err))
	}
	if len(stored) == 0 {
		return all, nil
	}
	hosts, err := m.coord.Hosts(ctx)
	if err != nil {
		return nil, fmt.Errorf("volume %q: list hosts: %w", name, unavailable(err))
	}
	for _, s := range stored {
		h := Holder{Host: path.Base(s.Key)}
		var r holder
		if err := unmarshal("record "+s.Key, s.Value, recordSchema, &r); err != nil {
			m.log.Warn("holder's record can't be read, and counts all the same", "err", err)
		}
		h.Since, h.ThisHost = r.Since, h.Host == m.cfg.Host && r.by(m.me)
		h.Live = slices.ContainsFunc(hosts, func(o coordination.Host) bool { return o.Name == h.Host && o.Live && r.by(o) })
		all = append(all, h)
	}
	return all, nil
}

// unheld returns ErrInUse, naming them, if other hosts hold a volume.
func (m *Manager) unheld(ctx context.Context, name string) error {
	holders, err := m.holdersOf(ctx, name)
	if err != nil {
		return err
	}
	var texts []string
	for _, h := range holders {
		switch since := h.Since.Local().Format(time.DateTime); {
		case h.ThisHost:
		case h.Live:
			texts = append(texts, fmt.Sprintf("mounted on host %q since %s: stop its containers there", h.Host, since))
		default:
			texts = append(texts, fmt.Sprintf("mounted on host %q since %s, which is silent and may still write: bring it back, or when it is off for good, dvold host forget %s", h.Host, since, h.Host))
		}
	}
	if len(texts) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %w", strings.Join(texts, "; "), ErrInUse)
}

// holderOf reads what a host wrote for a volume that it holds, if it has.
func (m *Manager) holderOf(ctx context.Context, host, name string) (holder, error) {
	stored, err := m.stored(ctx, holderKey(name, host))
	if err != nil || stored.Version == 0 {
		return holder{}, err
	}
	var h holder
	return h, unmarshal(fmt.Sprintf("record %q", stored.Key), stored.Value, recordSchema, &h)
}
