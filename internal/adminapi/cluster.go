package adminapi

import (
	"context"
	"net/http"

	"github.com/dvol/dvold/internal/volumes"
)

// Scan asks for a comparison of what lies in a pool with the records.
type Scan struct {
	Import bool   `json:"import"`         // bring back what the records miss
	From   string `json:"from,omitempty"` // also of this other cluster, by its ID
}

// Findings are what a scan found, until Problem kept it from going on.
type Findings struct {
	Findings []volumes.Finding `json:"findings"`
	Problem  string            `json:"problem,omitempty"`
}

func (s *Server) listPools(ctx context.Context, _ *http.Request) (any, error) {
	return s.volumes.ClusterPools(ctx)
}

func (s *Server) scanPool(ctx context.Context, r *http.Request) (any, error) {
	var o Scan
	if err := decode(r, &o); err != nil {
		return nil, err
	}
	found, err := s.volumes.Scan(ctx, r.PathValue("name"), o.Import, o.From)
	if found == nil {
		return nil, err
	}
	answer := Findings{Findings: found}
	if err != nil {
		answer.Problem = err.Error()
	}
	return answer, nil
}

func (s *Server) listHosts(ctx context.Context, _ *http.Request) (any, error) {
	return s.volumes.Hosts(ctx)
}

func (s *Server) forgetHost(ctx context.Context, r *http.Request) (any, error) {
	return struct{}{}, s.volumes.Forget(ctx, r.PathValue("name"))
}

func (s *Server) drainHost(ctx context.Context, r *http.Request) (any, error) {
	return struct{}{}, s.volumes.Drain(ctx, r.PathValue("name"), true)
}

func (s *Server) undrainHost(ctx context.Context, r *http.Request) (any, error) {
	return struct{}{}, s.volumes.Drain(ctx, r.PathValue("name"), false)
}

func (s *Server) getCluster(context.Context, *http.Request) (any, error) {
	return s.volumes.Cluster(), nil
}

func (s *Server) acceptCluster(ctx context.Context, _ *http.Request) (any, error) {
	if err := s.volumes.Accept(ctx); err != nil {
		return nil, err
	}
	return s.volumes.Cluster(), nil
}
