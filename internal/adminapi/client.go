package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/dvol/dvold/internal/migrate"
	"github.com/dvol/dvold/internal/volumes"
)

// clientTimeout is longer than the server's, which begins later and has more to
// say about what it was that took so long.
const clientTimeout = timeout + 10*time.Second

// Client asks a daemon on its admin socket. Its methods return what the daemon
// says, an error with the daemon's own text, or one that says how it can't be
// reached.
type Client struct {
	socket string
	http   http.Client
}

// NewClient makes a Client for the daemon behind socket.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: http.Client{Transport: &http.Transport{DialContext: dial}}}
}

// Volumes lists all volumes by name.
func (c *Client) Volumes(ctx context.Context) (all []volumes.Volume, err error) {
	return all, c.do(ctx, http.MethodGet, "/v1/volumes", nil, &all)
}

// Inspect describes one volume.
func (c *Client) Inspect(ctx context.Context, name string) (d Details, err error) {
	return d, c.do(ctx, http.MethodGet, "/v1/volumes/"+url.PathEscape(name), nil, &d)
}

// Create makes a volume.
func (c *Client) Create(ctx context.Context, name string, options map[string]string) (v volumes.Volume, err error) {
	return v, c.do(ctx, http.MethodPost, "/v1/volumes", Create{name, options}, &v)
}

// Remove moves a volume to the trash and returns what it was.
func (c *Client) Remove(ctx context.Context, name string) (v volumes.Volume, err error) {
	return v, c.do(ctx, http.MethodDelete, "/v1/volumes/"+url.PathEscape(name), nil, &v)
}

// Hosts lists the hosts of the cluster by name.
func (c *Client) Hosts(ctx context.Context) (all []volumes.Host, err error) {
	return all, c.do(ctx, http.MethodGet, "/v1/hosts", nil, &all)
}

// Pools lists the pools of the daemon's host.
func (c *Client) Pools(ctx context.Context) (all []volumes.PoolInfo, err error) {
	return all, c.do(ctx, http.MethodGet, "/v1/pools", nil, &all)
}

// SetAccess changes who may have a volume mounted.
func (c *Client) SetAccess(ctx context.Context, name string, access volumes.Access) (v volumes.Volume, err error) {
	return v, c.do(ctx, http.MethodPatch, "/v1/volumes/"+url.PathEscape(name), Change{access}, &v)
}

// Resize changes what a volume may hold, in bytes; 0 means no limit.
func (c *Client) Resize(ctx context.Context, name string, size int64) (v volumes.Volume, err error) {
	return v, c.do(ctx, http.MethodPost, "/v1/volumes/"+url.PathEscape(name)+"/resize", Resize{size}, &v)
}

// Release takes an exclusive volume from a silent host on the operator's word.
func (c *Client) Release(ctx context.Context, name, from string) (v volumes.Volume, err error) {
	return v, c.do(ctx, http.MethodPost, "/v1/volumes/"+url.PathEscape(name)+"/release", Release{from}, &v)
}

// ScanPool compares what lies in a pool of this host with the records.
func (c *Client) ScanPool(ctx context.Context, name string, o Scan) (f Findings, err error) {
	return f, c.ask(ctx, http.MethodPost, "/v1/pools/"+url.PathEscape(name)+"/scan", o, &f)
}

// ForgetHost removes all traces of a host that is gone for good.
func (c *Client) ForgetHost(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodPost, "/v1/hosts/"+url.PathEscape(name)+"/forget", nil, &struct{}{})
}

// DrainHost has a host mount no more volumes, or mount again.
func (c *Client) DrainHost(ctx context.Context, name string, drain bool) error {
	what := "/undrain"
	if drain {
		what = "/drain"
	}
	return c.do(ctx, http.MethodPost, "/v1/hosts/"+url.PathEscape(name)+what, nil, &struct{}{})
}

// Cluster describes the cluster as this host knows it.
func (c *Client) Cluster(ctx context.Context) (d volumes.Cluster, err error) {
	return d, c.do(ctx, http.MethodGet, "/v1/cluster", nil, &d)
}

// AcceptCluster has all hosts believe the coordinator's records as they are.
func (c *Client) AcceptCluster(ctx context.Context) (d volumes.Cluster, err error) {
	return d, c.do(ctx, http.MethodPost, "/v1/cluster/accept", nil, &d)
}

// Trash lists removed volumes, the last removed first.
func (c *Client) Trash(ctx context.Context) (all []volumes.Trashed, err error) {
	return all, c.do(ctx, http.MethodGet, "/v1/trash", nil, &all)
}

// Restore brings a removed volume back; which is its ID or name.
func (c *Client) Restore(ctx context.Context, which, as string) (v volumes.Volume, err error) {
	return v, c.do(ctx, http.MethodPost, "/v1/trash/"+url.PathEscape(which)+"/restore", Restore{as}, &v)
}

// Purge deletes a removed volume for good; which is its ID or name.
func (c *Client) Purge(ctx context.Context, which string) (t volumes.Trashed, err error) {
	return t, c.do(ctx, http.MethodDelete, "/v1/trash/"+url.PathEscape(which), nil, &t)
}

// Local lists the volumes of Docker's local driver. It takes as long as dvold takes to look into
// all processes for each.
func (c *Client) Local(ctx context.Context, dockerRoot string) (all []migrate.Local, err error) {
	return all, c.ask(ctx, http.MethodGet, "/v1/docker-local?root="+url.QueryEscape(dockerRoot), nil, &all)
}

// Migrate brings a volume of Docker's local driver to dvol. It takes as long as
// it takes to copy the data; if ctx ends before the volume is made, the daemon
// undoes what it has begun.
func (c *Client) Migrate(ctx context.Context, name string, m Migrate) (r migrate.Result, err error) {
	return r, c.ask(ctx, http.MethodPost, "/v1/docker-local/"+url.PathEscape(name)+"/migrate", m, &r)
}

// Metrics are the daemon's, in Prometheus' text format.
func (c *Client) Metrics(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	resp, err := c.send(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("read dvold's answer: %w", err)
	}
	return string(text), nil
}

// do is ask with a deadline.
func (c *Client) do(ctx context.Context, method, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	return c.ask(ctx, method, path, body, answer)
}

func (c *Client) ask(ctx context.Context, method, path string, body, answer any) error {
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("read dvold's answer: %w", err)
	}
	return nil
}

// send returns an answer that is no error. The caller closes its body.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var text bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&text).Encode(body); err != nil {
			return nil, err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://dvold"+path, &text)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(r)
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err
	}
	if errors.Is(err, context.Canceled) {
		return nil, errors.New("interrupted")
	}
	if err != nil {
		return nil, fmt.Errorf("ask dvold on %s: %w (is dvold running, and are you root?)", c.socket, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		var p problem
		if json.NewDecoder(resp.Body).Decode(&p) != nil || p.Error == "" {
			p.Error = "dvold answered " + resp.Status
		}
		return nil, errors.New(p.Error)
	}
	return resp, nil
}
