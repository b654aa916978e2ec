package volumes

import (
	"github.com/dvol/dvold/coordination"
	"github.com/dvol/dvold/internal/standing"
)

// promise has the records say whether a guard sees to the volumes that this host
// owns in a session, once that has changed: what none sees to nobody may take
// over by lease, for if dvold ended too, nobody would cut it off.
func (m *Manager) promise(session coordination.Session) {
	m.mu.RLock()
	promised := make(map[string]bool) // that a guard sees to it, by volume
	for name, o := range m.ownerships {
		if o.incarnation == session.Incarnation() && o.terms.OnSessionLoss == standing.Cut && m.mounts[name].Lost == "" {
			promised[name] = o.terms.Guarded
		}
	}
	m.mu.RUnlock()
	if len(promised) == 0 {
		return
	}
	guarded := m.guard.Guarded()
	for name, before := range promised {
		if before == guarded || !m.promising.begin(name) {
			continue
		}
		m.calls.Add(1)
		go func() {
			defer m.calls.Done()
			defer m.promising.end(name)
			if err := m.tryReclaim(session, name); err != nil && session.Context().Err() == nil {
				m.log.Warn("the records don't say yet whether a guard sees to a volume", "volume", name, "guarded", guarded, "err", err)
			}
		}()
	}
}
