package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/docker/go-plugins-helpers/volume"
)

// pluginSocket is where dvold listens for the engine, inside a host.
const pluginSocket = "/run/docker/plugins/dvol.sock"

// plugin calls dvold as the engine does.
type plugin struct{ *client }

func (p plugin) activate(ctx context.Context) error {
	return p.do(ctx, http.MethodPost, "/Plugin.Activate", nil)
}

func (p plugin) create(ctx context.Context, name string) error { return p.createAs(ctx, name, nil) }

func (p plugin) createAs(ctx context.Context, name string, options map[string]string) error {
	return p.do(ctx, http.MethodPost, "/VolumeDriver.Create", volume.CreateRequest{Name: name, Options: options})
}

func (p plugin) remove(ctx context.Context, name string) error {
	return p.do(ctx, http.MethodPost, "/VolumeDriver.Remove", volume.RemoveRequest{Name: name})
}

func (p plugin) get(ctx context.Context, name string) error {
	return p.do(ctx, http.MethodPost, "/VolumeDriver.Get", volume.GetRequest{Name: name})
}

// getUnknown asks for a volume that must not exist.
func (p plugin) getUnknown(ctx context.Context, name string) error {
	status, text, err := p.ask(ctx, http.MethodPost, "/VolumeDriver.Get", volume.GetRequest{Name: name})
	if err == nil && status != http.StatusInternalServerError {
		err = fmt.Errorf("an unknown volume is answered with %d: %.200s", status, text)
	}
	return err
}

func (p plugin) list(ctx context.Context) error {
	return p.do(ctx, http.MethodPost, "/VolumeDriver.List", struct{}{})
}

// names lists all volumes and decodes the answer, as the engine does.
func (p plugin) names(ctx context.Context) ([]*volume.Volume, error) {
	var listed volume.ListResponse
	status, text, err := p.ask(ctx, http.MethodPost, "/VolumeDriver.List", struct{}{})
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("a list is answered with %d: %.200s", status, text)
	}
	if err == nil {
		err = json.Unmarshal(text, &listed)
	}
	return listed.Volumes, err
}

func (p plugin) mount(ctx context.Context, name, id string) error {
	return p.do(ctx, http.MethodPost, "/VolumeDriver.Mount", volume.MountRequest{Name: name, ID: id})
}

// mountpoint mounts a volume and returns where that is, inside the host.
func (p plugin) mountpoint(ctx context.Context, name, id string) (string, error) {
	var mounted volume.MountResponse
	status, text, err := p.ask(ctx, http.MethodPost, "/VolumeDriver.Mount", volume.MountRequest{Name: name, ID: id})
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("a mount is answered with %d: %.200s", status, text)
	}
	if err == nil {
		err = json.Unmarshal(text, &mounted)
	}
	return mounted.Mountpoint, err
}

func (p plugin) unmount(ctx context.Context, name, id string) error {
	return p.do(ctx, http.MethodPost, "/VolumeDriver.Unmount", volume.UnmountRequest{Name: name, ID: id})
}

// use mounts a volume and unmounts it again.
func (p plugin) use(ctx context.Context, name, id string) error {
	if err := p.mount(ctx, name, id); err != nil {
		return err
	}
	return p.unmount(ctx, name, id)
}

// mountID is the nth of the IDs that the engine gives to mounts.
func mountID(n int) string { return fmt.Sprintf("%064x", n) }
