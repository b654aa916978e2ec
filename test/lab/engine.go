package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// The docker command takes a tenth of a second of a processor to start, so tests that
// make many containers, or ask again and again, call its engine themselves. What people
// type is for test/e2e and test/compose.

// Container is one of the image BusyBox, with its host's network: to give one its own, the
// engine starts itself once more, which takes as much as all the rest.
type Container struct {
	Name     string // may be empty if it is run to its end
	Hostname string // may be empty
	// Binds are its volumes, as VOLUME:/TARGET. Those that aren't there are made by Driver.
	Binds   []string
	Driver  string
	Restart string   // the policy; may be empty
	Command []string // it ends by SIGKILL when it is stopped
}

// Run starts a container, which is left if it can't be.
func (h *Host) Run(ctx context.Context, c Container) error {
	if err := h.createContainer(ctx, c); err != nil {
		return err
	}
	return h.engine(ctx, http.MethodPost, "containers/"+c.Name+"/start", nil, nil)
}

func (h *Host) createContainer(ctx context.Context, c Container) error {
	return h.engine(ctx, http.MethodPost, "containers/create?name="+c.Name, map[string]any{
		"Image": BusyBox, "Cmd": c.Command, "Hostname": c.Hostname, "StopSignal": "KILL",
		"HostConfig": map[string]any{
			"Binds": c.Binds, "VolumeDriver": c.Driver, "NetworkMode": "host", "RestartPolicy": map[string]any{"Name": c.Restart},
		},
	}, nil)
}

// RunToEnd runs a container to its end, removes it, and returns what it prints to standard
// output, without the white space around it. If it fails, the error has what it printed to
// standard error.
func (h *Host) RunToEnd(ctx context.Context, c Container) (out string, err error) {
	if c.Name == "" {
		c.Name = fmt.Sprint("run-", h.runs.Add(1))
	}
	defer func() {
		if removed := h.RemoveContainers(context.WithoutCancel(ctx), c.Name); err == nil {
			err = removed
		}
	}()
	if err := h.Run(ctx, c); err != nil {
		return "", err
	}
	path := "containers/" + c.Name
	var end struct{ StatusCode int }
	if err := h.engine(ctx, http.MethodPost, path+"/wait", nil, &end); err != nil {
		return "", err
	}
	var stdout, stderr bytes.Buffer
	err = h.call(ctx, http.MethodGet, path+"/logs?stdout=1&stderr=1", nil, func(body io.Reader) error {
		return demultiplex(body, &stdout, &stderr)
	})
	if err == nil && end.StatusCode != 0 {
		err = fmt.Errorf("run %s: exit status %d: %s", strings.Join(c.Command, " "), end.StatusCode, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), err
}

// RemoveContainers ends and removes containers and their anonymous volumes. Those that are
// not there are fine.
func (h *Host) RemoveContainers(ctx context.Context, names ...string) error {
	return each(names, func(name string) error {
		err := h.engine(ctx, http.MethodDelete, "containers/"+name+"?force=1&v=1", nil, nil)
		if err != nil && strings.Contains(err.Error(), "No such container") {
			return nil
		}
		return err
	})
}

// Containers are the IDs of all the host's containers.
func (h *Host) Containers(ctx context.Context) (ids []string, err error) {
	var all []struct{ Id string }
	err = h.engine(ctx, http.MethodGet, "containers/json?all=1", nil, &all)
	for _, c := range all {
		ids = append(ids, c.Id)
	}
	return ids, err
}

// ContainerState is what the engine says of a container.
type ContainerState struct {
	State struct {
		Running bool
		Error   string
	}
	RestartCount int
}

// Container returns the state of a container.
func (h *Host) Container(ctx context.Context, name string) (s ContainerState, err error) {
	return s, h.engine(ctx, http.MethodGet, "containers/"+name+"/json", nil, &s)
}

// CreateVolume makes a volume of a driver, with options KEY=VALUE.
func (h *Host) CreateVolume(ctx context.Context, driver, name string, options ...string) error {
	all := make(map[string]string)
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		all[key] = value
	}
	return h.engine(ctx, http.MethodPost, "volumes/create", map[string]any{"Name": name, "Driver": driver, "DriverOpts": all}, nil)
}

// engine calls the host's engine and reads its answer, unless it is to be nil.
func (h *Host) engine(ctx context.Context, method, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return h.call(ctx, method, path, bytes.NewReader(text), func(r io.Reader) error {
		if answer == nil {
			return nil
		}
		return json.NewDecoder(r).Decode(answer)
	})
}

func (h *Host) call(ctx context.Context, method, path string, body io.Reader, read func(io.Reader) error) error {
	if h.Frozen() {
		return fmt.Errorf("ask the engine of %s: %w", h.name, ErrFrozen)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://docker/"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := overSocket(h.Path("run/docker.sock")).RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%s %s of %s: %w", method, path, h.name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		var said struct{ Message string }
		if err := json.NewDecoder(resp.Body).Decode(&said); err != nil {
			said.Message = resp.Status
		}
		return fmt.Errorf("%s %s of %s: %w", method, path, h.name, errors.New(said.Message))
	}
	return read(resp.Body)
}

// demultiplex splits what the engine has sent of both of a container's outputs: each piece has
// a header of 8 bytes, which of them it is and its length
// (https://docs.docker.com/reference/api/engine/, "Attach to a container").
func demultiplex(r io.Reader, stdout, stderr io.Writer) error {
	for {
		var header [8]byte
		if _, err := io.ReadFull(r, header[:]); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		to := stdout
		if header[0] == 2 {
			to = stderr
		}
		if _, err := io.CopyN(to, r, int64(binary.BigEndian.Uint32(header[4:]))); err != nil {
			return err
		}
	}
}
