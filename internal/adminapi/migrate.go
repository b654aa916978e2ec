package adminapi

import (
	"context"
	"net/http"

	"github.com/dvol/dvold/internal/migrate"
)

// Migrate asks for a volume of Docker's local driver to be brought to dvol.
type Migrate struct {
	DockerRoot string `json:"docker_root"`
	Pool       string `json:"pool,omitempty"` // empty means the default pool
	Size       string `json:"size,omitempty"` // as of a volume that is created
	Move       bool   `json:"move,omitempty"`
}

func (s *Server) listLocal(ctx context.Context, r *http.Request) (any, error) {
	return s.migrator.List(ctx, r.URL.Query().Get("root"))
}

func (s *Server) migrate(ctx context.Context, r *http.Request) (any, error) {
	var m Migrate
	if err := decode(r, &m); err != nil {
		return nil, err
	}
	return s.migrator.Migrate(ctx, migrate.Request{
		Name: r.PathValue("name"), DockerRoot: m.DockerRoot, Pool: m.Pool, Size: m.Size, Move: m.Move,
	})
}
