package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/dvol/dvold/test/lab"
)

// engineSocket is where the engine listens, inside a host.
const engineSocket = "/run/docker.sock"

// drivers are compared with each other: ours, then the baseline.
var drivers = [...]string{"dvol", "local"}

// engine calls Docker's own API, as its command does.
type engine struct{ *client }

func (e engine) create(ctx context.Context, driver, name string) error {
	return e.do(ctx, http.MethodPost, "/volumes/create", map[string]string{"Name": name, "Driver": driver})
}

func (e engine) inspect(ctx context.Context, name string) error {
	return e.do(ctx, http.MethodGet, "/volumes/"+name, nil)
}

func (e engine) remove(ctx context.Context, name string) error {
	return e.do(ctx, http.MethodDelete, "/volumes/"+name, nil)
}

func (e engine) list(ctx context.Context, driver string) error {
	return e.do(ctx, http.MethodGet, "/volumes?filters="+url.QueryEscape(fmt.Sprintf(`{"driver":[%q]}`, driver)), nil)
}

// createContainer makes a container that has the volume at /data.
func (e engine) createContainer(ctx context.Context, name, volume string, argv ...string) error {
	return e.do(ctx, http.MethodPost, "/containers/create?name="+name, map[string]any{
		"Image": lab.BusyBox, "Cmd": argv, "StopSignal": "KILL", "NetworkDisabled": true,
		"HostConfig": map[string]any{"Binds": []string{volume + ":/data"}},
	})
}

func (e engine) start(ctx context.Context, name string) error {
	return e.do(ctx, http.MethodPost, "/containers/"+name+"/start", nil)
}

func (e engine) stop(ctx context.Context, name string) error {
	return e.do(ctx, http.MethodPost, "/containers/"+name+"/stop", nil)
}

func (e engine) startAndStop(ctx context.Context, name string) error {
	if err := e.start(ctx, name); err != nil {
		return err
	}
	return e.stop(ctx, name)
}

// engineStage compares the drivers through the engine.
func engineStage(ctx context.Context) (results, error) {
	e := engine{newClient(engineSocket)}
	s := series{}
	for _, part := range []func(context.Context, engine, series) error{lifeInEngine, containers, listsInEngine} {
		if err := part(ctx, e, s); err != nil {
			return results{}, err
		}
	}
	var r results
	for _, what := range []string{volumeCreate, volumeInspect, volumeRemove, volumeList, containerRun} {
		r.Rows = append(r.Rows, s.row(named(what, drivers[0]), named(what, drivers[1])))
	}
	return r, nil
}

// What the engine is asked for.
const (
	volumeCreate  = "volume create"
	volumeInspect = "volume inspect"
	volumeRemove  = "volume rm"
	volumeList    = "volume ls, 1,000 volumes"
	containerRun  = "start + stop of a container with a volume"
)

// named is the name of a series.
func named(what, driver string) string { return "engine: " + what + ", driver " + driver }

func lifeInEngine(ctx context.Context, e engine, s series) error {
	for i := range 100 {
		for _, driver := range inTurn(i, drivers[:]...) {
			name := "passing-" + driver
			if err := s.time(named(volumeCreate, driver), func() error { return e.create(ctx, driver, name) }); err != nil {
				return err
			}
			if err := s.time(named(volumeInspect, driver), func() error { return e.inspect(ctx, name) }); err != nil {
				return err
			}
			if err := s.time(named(volumeRemove, driver), func() error { return e.remove(ctx, name) }); err != nil {
				return err
			}
		}
	}
	return nil
}

func containers(ctx context.Context, e engine, s series) error {
	for _, driver := range drivers {
		name := "used-" + driver
		if err := e.create(ctx, driver, name); err != nil {
			return err
		}
		if err := e.createContainer(ctx, name, name, "sleep", "1000"); err != nil {
			return err
		}
	}
	for i := range 30 {
		for _, driver := range inTurn(i, drivers[:]...) {
			if err := s.time(named(containerRun, driver), func() error { return e.startAndStop(ctx, "used-"+driver) }); err != nil {
				return err
			}
		}
	}
	return nil
}

func listsInEngine(ctx context.Context, e engine, s series) error {
	for n := range 1000 {
		for _, driver := range drivers {
			if err := e.create(ctx, driver, fmt.Sprintf("listed-%s-%04d", driver, n)); err != nil {
				return err
			}
		}
	}
	for i := range 50 {
		for _, driver := range inTurn(i, drivers[:]...) {
			if err := s.time(named(volumeList, driver), func() error { return e.list(ctx, driver) }); err != nil {
				return err
			}
		}
	}
	return nil
}
