package adminapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/dvol/dvold/internal/volumes"
)

// Version is the daemon's.
type Version struct {
	Version string `json:"version"`
}

// Create asks for a volume.
type Create struct {
	Name    string            `json:"name"`
	Options map[string]string `json:"options,omitempty"`
}

// Restore asks for a removed volume, under its own name if As is empty.
type Restore struct {
	As string `json:"as,omitempty"`
}

// Change says what is to become of a volume.
type Change struct {
	Access volumes.Access `json:"access"`
}

// Resize asks for another size of a volume, in bytes; 0 means no limit.
type Resize struct {
	Size int64 `json:"size"`
}

// Release asks for a volume to be taken from a silent host on the operator's
// word.
type Release struct {
	From string `json:"from"`
}

func (s *Server) getVersion(context.Context, *http.Request) (any, error) {
	return Version{s.version}, nil
}

func (s *Server) listVolumes(ctx context.Context, _ *http.Request) (any, error) {
	return s.volumes.List(ctx)
}

func (s *Server) createVolume(ctx context.Context, r *http.Request) (any, error) {
	var c Create
	if err := decode(r, &c); err != nil {
		return nil, err
	}
	if err := s.volumes.Create(ctx, c.Name, c.Options); err != nil {
		return nil, err
	}
	return s.volumes.Get(ctx, c.Name)
}

// removeVolume tells an operator about a volume that does not exist, where
// the engine would be told that it is removed.
func (s *Server) removeVolume(ctx context.Context, r *http.Request) (any, error) {
	v, err := s.volumes.Get(ctx, r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return v, s.volumes.Remove(ctx, v.Name, nil)
}

func (s *Server) changeVolume(ctx context.Context, r *http.Request) (any, error) {
	var c Change
	if err := decode(r, &c); err != nil {
		return nil, err
	}
	return s.volumes.SetAccess(ctx, r.PathValue("name"), c.Access)
}

func (s *Server) resizeVolume(ctx context.Context, r *http.Request) (any, error) {
	var o Resize
	if err := decode(r, &o); err != nil {
		return nil, err
	}
	return s.volumes.Resize(ctx, r.PathValue("name"), o.Size)
}

func (s *Server) releaseVolume(ctx context.Context, r *http.Request) (any, error) {
	var o Release
	if err := decode(r, &o); err != nil {
		return nil, err
	}
	if err := s.volumes.Release(ctx, r.PathValue("name"), o.From); err != nil {
		return nil, err
	}
	return s.volumes.Get(ctx, r.PathValue("name"))
}

func (s *Server) listTrash(ctx context.Context, _ *http.Request) (any, error) {
	return s.volumes.Trash(ctx)
}

func (s *Server) restore(ctx context.Context, r *http.Request) (any, error) {
	var o Restore
	if err := decode(r, &o); err != nil {
		return nil, err
	}
	return s.volumes.Restore(ctx, r.PathValue("which"), o.As)
}

func (s *Server) purge(ctx context.Context, r *http.Request) (any, error) {
	return s.volumes.Purge(ctx, r.PathValue("which"))
}

func decode(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("request body: %w: %w", err, volumes.ErrInvalid)
	}
	return nil
}
