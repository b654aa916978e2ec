package dockerapi

import (
	"context"
	"errors"
	"time"

	"github.com/docker/go-plugins-helpers/volume"

	"github.com/dvol/dvold/internal/volumes"
)

// The answers to Create, Remove and Unmount.
type empty struct{}

// The engine may create what exists, from many hosts at once, with options
// that disagree: it asks Get first, and others may be quicker.
func (s *Server) create(ctx context.Context, r volume.CreateRequest) (any, error) {
	return empty{}, s.volumes.Create(ctx, r.Name, r.Options)
}

func (s *Server) remove(ctx context.Context, r volume.RemoveRequest) (any, error) {
	engine := peer(ctx)
	return empty{}, s.volumes.Remove(ctx, r.Name, &engine)
}

func (s *Server) mount(ctx context.Context, r volume.MountRequest) (any, error) {
	target, err := s.volumes.Mount(ctx, r.Name, r.ID, peer(ctx))
	if err != nil {
		return nil, err
	}
	unmount := func(ctx context.Context) error { return s.volumes.Unmount(ctx, r.Name, r.ID) }
	return undoable{volume.MountResponse{Mountpoint: target}, unmount}, nil
}

func (s *Server) unmount(ctx context.Context, r volume.UnmountRequest) (any, error) {
	return empty{}, s.volumes.Unmount(ctx, r.Name, r.ID)
}

func (s *Server) path(ctx context.Context, r volume.PathRequest) (any, error) {
	v, err := s.volumes.Get(ctx, r.Name)
	return volume.PathResponse{Mountpoint: v.Mountpoint}, err
}

// get answers with the truth or not at all. Whatever error the engine is
// given, it takes for "does not exist", and forgets the volume's labels and
// which containers refer to it; only a lost connection means "don't know" to it
// (moby volume/service/store.go), but it waits 15 s for that. Of a volume that
// this host never saw the engine has nothing to forget.
func (s *Server) get(ctx context.Context, r volume.GetRequest) (any, error) {
	v, err := s.volumes.Get(ctx, r.Name)
	if err != nil && !errors.Is(err, volumes.ErrNotFound) && !errors.Is(err, volumes.ErrUnseen) {
		return nil, errors.Join(errUnanswerable, err)
	}
	return volume.GetResponse{Volume: describe(v)}, err
}

// list answers with names alone: all that docker volume ls shows.
func (s *Server) list(ctx context.Context, _ struct{}) (any, error) {
	names, err := s.volumes.Names(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]volume.Volume, len(names))
	pointers := make([]*volume.Volume, len(names)) // never null, which the engine takes for an error
	for i, name := range names {
		all[i].Name = name
		pointers[i] = &all[i]
	}
	return volume.ListResponse{Volumes: pointers}, nil
}

// describe is a volume in the engine's form. CreatedAt must be RFC 3339, or
// the engine can't read the answer and takes the volume for gone; Status is
// shown by docker volume inspect alone. The mountpoint is told before anything
// is mounted there: the engine keeps it as the container's Mounts[].Source.
func describe(v volumes.Volume) *volume.Volume {
	d := &volume.Volume{Name: v.Name, Mountpoint: v.Mountpoint, CreatedAt: v.CreatedAt.UTC().Format(time.RFC3339)}
	d.Status = map[string]any{
		"id":         v.ID,
		"pool":       v.Pool,
		"type":       v.Type,
		"access":     v.Access,
		"created_by": v.CreatedBy,
		"mounted":    v.Mounted,
		"adopted":    v.Adopted,
		"retain":     v.Retain,
	}
	if len(v.Options) > 0 {
		d.Status["options"] = v.Options
	}
	if v.Size > 0 {
		d.Status["size"] = v.Size
	}
	if v.Home != "" {
		d.Status["home"] = v.Home
	}
	if v.AsOf != nil {
		d.Status["degraded"] = "the coordinator is away; this was true at " + v.AsOf.UTC().Format(time.RFC3339)
	}
	return d
}
