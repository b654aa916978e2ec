package adminapi

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/dvol/dvold/internal/volumes"
)

// Details is all there is to know about a volume.
type Details struct {
	volumes.Details
	Holders     []Holder    `json:"holders"`
	WhenRemoved WhenRemoved `json:"when_removed"`
}

// Holder is a host that has the volume mounted.
type Holder struct {
	Host     string    `json:"host"`
	ThisHost bool      `json:"this_host"` // uses and users tell more about it
	Since    time.Time `json:"since"`
}

// WhenRemoved says what a removal does with the data: "released", it stays
// where it is because it was adopted; "retained", it stays in the trash until
// an operator purges it; or "trashed", for as long as TrashTTL says.
type WhenRemoved struct {
	Data     string `json:"data"`
	TrashTTL string `json:"trash_ttl,omitempty"` // none if that is for another host to say
}

func (s *Server) inspectVolume(ctx context.Context, r *http.Request) (any, error) {
	v, err := s.volumes.Inspect(ctx, r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	holders, err := s.holders(ctx, v)
	if err != nil {
		return nil, err
	}
	return Details{Details: v, Holders: holders, WhenRemoved: s.whenRemoved(v.Volume)}, nil
}

// holders knows of this host only.
func (s *Server) holders(ctx context.Context, v volumes.Details) ([]Holder, error) {
	holders := []Holder{}
	if !v.Mounted || len(v.Uses) == 0 {
		return holders, nil
	}
	since := v.Uses[0].Since
	for _, u := range v.Uses {
		if u.Since.Before(since) {
			since = u.Since
		}
	}
	hosts, err := s.volumes.Hosts(ctx)
	if err != nil {
		return nil, fmt.Errorf("volume %q: %w", v.Name, err)
	}
	for _, h := range hosts {
		if h.ThisHost {
			holders = append(holders, Holder{Host: h.Name, ThisHost: true, Since: since})
		}
	}
	return holders, nil
}

func (s *Server) whenRemoved(v volumes.Volume) WhenRemoved {
	switch {
	case v.Adopted:
		return WhenRemoved{Data: "released"}
	case v.Retain:
		return WhenRemoved{Data: "retained"}
	}
	for _, p := range s.volumes.Pools() {
		if p.Name == v.Pool {
			return WhenRemoved{"trashed", p.TrashTTL.String()}
		}
	}
	return WhenRemoved{Data: "trashed"}
}

func (s *Server) listHosts(ctx context.Context, _ *http.Request) (any, error) {
	return s.volumes.Hosts(ctx)
}
