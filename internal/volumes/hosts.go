package volumes

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/dvol/dvold/coordination"
)

// Host describes a machine that runs dvold, or once did.
type Host struct {
	Name        string    `json:"name"`
	Live        bool      `json:"live"` // one that is not stopped reporting; it may still write to its volumes
	ThisHost    bool      `json:"this_host"`
	Since       time.Time `json:"since"` // of this incarnation
	Incarnation uint64    `json:"incarnation"`
	Draining    bool      `json:"draining"` // mounts no more volumes
	Holds       int       `json:"holds"`    // volumes
}

// Hosts lists the hosts that ever joined the cluster, ordered by name, or
// returns ErrUnavailable. It asks no storage.
func (m *Manager) Hosts(ctx context.Context) ([]Host, error) { return ask(ctx, m, m.hosts) }

func (m *Manager) hosts(ctx context.Context) ([]Host, error) {
	joined, err := m.coord.Hosts(ctx)
	if err != nil {
		return nil, fmt.Errorf("list hosts: %w", unavailable(err))
	}
	holdings, err := m.coord.Keys(ctx, "holdings/")
	if err != nil {
		return nil, fmt.Errorf("list hosts: %w", unavailable(err))
	}
	holds := make(map[string]int)
	for _, key := range holdings {
		holds[path.Base(path.Dir(key))]++
	}
	drains, err := m.coord.Keys(ctx, drainKey(""))
	if err != nil {
		return nil, fmt.Errorf("list hosts: %w", unavailable(err))
	}
	all := make([]Host, 0, len(joined))
	for _, h := range joined {
		all = append(all, Host{
			Name: h.Name, Live: h.Live, ThisHost: h.Name == m.cfg.Host, Since: h.Since, Incarnation: h.Incarnation,
			Draining: slices.Contains(drains, drainKey(h.Name)), Holds: holds[h.Name],
		})
	}
	return all, nil
}

// hostNamed returns the host of that name, or ErrInvalid.
func (m *Manager) hostNamed(ctx context.Context, name string) (coordination.Host, error) {
	if err := m.reach.err(); err != nil {
		return coordination.Host{}, err
	}
	h, err := m.findHost(ctx, name)
	if err == nil && h.Name == "" {
		err = fmt.Errorf("there is no such host in the cluster, see dvold host ls: %w", ErrInvalid)
	}
	return h, err
}

// findHost returns the host of that name, or none.
func (m *Manager) findHost(ctx context.Context, name string) (coordination.Host, error) {
	h, err := m.coord.Host(ctx, name)
	if errors.Is(err, coordination.ErrNotFound) {
		return coordination.Host{}, nil
	}
	return h, unavailable(err)
}

// Drain has a host mount no more volumes that it has not mounted, or has it
// mount again. What is mounted there stays. It returns ErrInvalid if there is no
// such host, or ErrUnavailable.
func (m *Manager) Drain(ctx context.Context, name string, drain bool) error {
	if err := m.drain(ctx, name, drain); err != nil {
		return fmt.Errorf("host %.64q: %w", name, err)
	}
	return nil
}

func (m *Manager) drain(ctx context.Context, name string, drain bool) error {
	if _, err := m.hostNamed(ctx, name); err != nil {
		return err
	}
	return m.setDrained(ctx, name, drain)
}

// setDrained is drain for a host that is known to be one, or was.
func (m *Manager) setDrained(ctx context.Context, name string, drain bool) error {
	stored, err := m.stored(ctx, drainKey(name))
	if err != nil || (stored.Version != 0) == drain {
		return err
	}
	op := coordination.Delete(stored)
	if drain {
		stored.Value = []byte(newOp())
		op = coordination.Put(stored)
	}
	if _, err := m.commit(ctx, op); err != nil {
		return ignoreConflict(err)
	}
	m.log.Info("host is drained, or not any more", "host", name, "drained", drain)
	return nil
}

// undrained returns ErrUnavailable if this host is being drained.
func (m *Manager) undrained(ctx context.Context) error {
	stored, err := m.stored(ctx, drainKey(m.cfg.Host))
	if err != nil || stored.Version == 0 {
		return err
	}
	return unavailablef("host %q is being drained: use the volume on another, or dvold host undrain %s", m.cfg.Host, m.cfg.Host)
}

// Forget removes all traces of a host that is gone for good: that it holds
// volumes, that it has pools, and what it was in the middle of. The caller
// vouches for it: a host that is only silent may still write. Where the name is that of
// a live host by now, forgotten is what other machines hold that had it before. It returns
// ErrInvalid if there is no such host, ErrInUse if it is live and there is none of that, or
// ErrUnavailable, and may be repeated.
func (m *Manager) Forget(ctx context.Context, name string) error {
	if err := m.forgetHost(ctx, name); err != nil {
		return fmt.Errorf("forget host %.64q: %w", name, err)
	}
	m.log.Warn("host was forgotten", "host", name)
	return nil
}

func (m *Manager) forgetHost(ctx context.Context, name string) error {
	h, err := m.hostNamed(ctx, name)
	if err != nil {
		return err
	}
	n, err := m.forgetHoldings(ctx, h)
	switch {
	case err != nil:
		return err
	case h.Live && n == 0:
		return fmt.Errorf("it is live: stop dvold there, or drain it instead: %w", ErrInUse)
	case h.Live:
		return nil
	}
	if err := m.dropIntents(ctx, name); err != nil {
		return err
	}
	if err := m.hidePools(ctx, name); err != nil {
		return err
	}
	if err := m.setDrained(ctx, name, false); err != nil { // should it come back one day
		return err
	}
	session, err := m.session()
	if err != nil {
		return err
	}
	err = session.Forget(ctx, h)
	if errors.Is(err, coordination.ErrConflict) {
		return fmt.Errorf("it has come back: %w", ErrInUse)
	}
	return unavailable(err)
}

// forgetHoldings has the records say that a host holds nothing, or, of a live one, that
// other machines which had its name don't. It returns how many volumes were held.
func (m *Manager) forgetHoldings(ctx context.Context, h coordination.Host) (n int, err error) {
	holdings, err := m.coord.List(ctx, holdingKey(h.Name, ""))
	if err != nil {
		return 0, unavailable(err)
	}
	for _, s := range holdings {
		volume := path.Base(s.Key)
		by, err := m.holderOf(ctx, h.Name, volume)
		if err != nil {
			return n, err
		}
		if h.Live && by.by(h) {
			continue
		}
		if err := m.vouchFor(ctx, h.Name, volume); err != nil {
			return n, fmt.Errorf("volume %q: %w", volume, err)
		}
		held, err := m.holdingOf(ctx, h.Name, volume)
		if err != nil {
			return n, err
		}
		if _, err := m.commit(ctx, held.delete(h.Name, volume)...); err != nil {
			return n, fmt.Errorf("let go of volume %q: %w", volume, err)
		}
		n++
	}
	return n, nil
}

// dropIntents takes back what a host that is gone was in the middle of. What
// that left on a disk of its own is left there.
func (m *Manager) dropIntents(ctx context.Context, host string) error {
	stored, err := m.coord.List(ctx, "intents/")
	if err != nil {
		return unavailable(err)
	}
	for _, s := range stored {
		in, err := decodeIntent(s)
		if err != nil || in.By.Host != host {
			continue
		}
		if in.Kind == creating && !m.ours(*in.Record) {
			var ops []coordination.Op
			if ops, err = m.unclaim(ctx, *in.Record); err == nil {
				_, err = m.commit(ctx, append(ops, in.done())...)
			}
		} else {
			err = m.takeBack(ctx, in)
		}
		if err := ignoreConflict(err); err != nil {
			return fmt.Errorf("volume %q: %w", in.Name, err)
		}
	}
	return nil
}
