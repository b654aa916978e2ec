package adminapi

import (
	"context"
	"net/http"

	"github.com/dvol/dvold/internal/volumes"
)

// Details is all there is to know about a volume.
type Details struct {
	volumes.Details
	WhenRemoved WhenRemoved `json:"when_removed"`
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
	return Details{Details: v, WhenRemoved: s.whenRemoved(v.Volume)}, nil
}

func (s *Server) whenRemoved(v volumes.Volume) WhenRemoved {
	switch {
	case v.Adopted:
		return WhenRemoved{Data: "released"}
	case v.Retain:
		return WhenRemoved{Data: "retained"}
	}
	for _, p := range s.volumes.Pools() {
		if p.Name == v.Pool && v.Type != "" { // and not another host's of that name
			return WhenRemoved{"trashed", p.TrashTTL.String()}
		}
	}
	return WhenRemoved{Data: "trashed"}
}
