package volumes

import (
	"context"
	"fmt"
	"time"
)

// Host describes a machine that runs dvold, or once did.
type Host struct {
	Name        string    `json:"name"`
	Live        bool      `json:"live"` // one that is not stopped reporting; it may still write to its volumes
	ThisHost    bool      `json:"this_host"`
	Since       time.Time `json:"since"` // of this incarnation
	Incarnation uint64    `json:"incarnation"`
}

// Hosts lists the hosts that ever joined the cluster, ordered by name, or
// returns ErrUnavailable. It asks no storage.
func (m *Manager) Hosts(ctx context.Context) ([]Host, error) {
	joined, err := m.coord.Hosts(ctx)
	if err != nil {
		return nil, fmt.Errorf("list hosts: %w", unavailable(err))
	}
	all := make([]Host, 0, len(joined))
	for _, h := range joined {
		all = append(all, Host{
			Name: h.Name, Live: h.Live, ThisHost: h.Name == m.cfg.Host, Since: h.Since, Incarnation: h.Incarnation,
		})
	}
	return all, nil
}
