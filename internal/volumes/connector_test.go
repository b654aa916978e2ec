package volumes

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/internal/standing"
)

// connector is a pool that knows hosts by the clients that they have of its
// volumes, one of each, and can cut a client off. Clients are files in a directory
// that all hosts share, so that one outlives its daemon, as a mapped image does.
type connector struct {
	*gate
	host string // that it runs on
	dir  string

	mu    sync.Mutex // guards the fields below
	fault func(action string) error
	said  []string // "connect", "mount", … with the client, in order
}

var _ backends.Connecting = (*connector)(nil)

func newConnector(g *gate, host, dir string) *connector {
	return &connector{gate: g, host: host, dir: dir}
}

// clientFile holds the client that a host has of a volume.
func clientFile(host, handle string) string { return host + "," + filepath.Base(handle) }

// client is what a host is connected to a volume by, or "".
func (c *connector) client(host, handle string) string {
	text, err := os.ReadFile(filepath.Join(c.dir, "clients", clientFile(host, handle)))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		panic(err)
	}
	return string(text)
}

// died has the clients of a host be gone.
func (c *connector) died(host string) {
	files, err := filepath.Glob(filepath.Join(c.dir, "clients", clientFile(host, "*")))
	for _, file := range files {
		err = errors.Join(err, os.Remove(file))
	}
	if err != nil {
		panic(err)
	}
}

func (c *connector) isCut(client string) bool {
	_, err := os.Stat(filepath.Join(c.dir, "cut", client))
	return err == nil
}

// meets has each action meet a fault, until it is nil.
func (c *connector) meets(fault func(action string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = fault
}

// did is what was done to clients, in order.
func (c *connector) did(action string) (clients []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.said {
		if client, ok := strings.CutPrefix(s, action+" "); ok {
			clients = append(clients, client)
		}
	}
	return clients
}

// act notes what is about to be done, unless a fault is in the way.
func (c *connector) act(action, client string) error {
	c.mu.Lock()
	fault := c.fault
	c.mu.Unlock()
	if fault != nil {
		if err := fault(action); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, action+" "+client)
	return nil
}

func (c *connector) Method() string { return "test client" }

func (c *connector) Effect(f backends.Fence) string { return "cut off " + f.Identity.Facts["client"] }

func (c *connector) Identity(_ context.Context, handle string) (backends.Identity, error) {
	return backends.Identity{Domain: "image/" + handle}, nil
}

func (c *connector) Connect(_ context.Context, handle string, id backends.Identity) (backends.Identity, error) {
	client := c.client(c.host, handle)
	if client == "" || c.isCut(client) {
		client = c.host + "-" + newOp()
		if err := c.act("connect", client); err != nil {
			return id, err
		}
		if err := os.MkdirAll(filepath.Join(c.dir, "clients"), 0o700); err != nil {
			return id, err
		}
		if err := os.WriteFile(filepath.Join(c.dir, "clients", clientFile(c.host, handle)), []byte(client), 0o600); err != nil {
			return id, err
		}
	}
	if earlier := id.Facts["client"]; earlier != "" && earlier != client {
		if err := c.act("end", earlier); err != nil {
			return id, err
		}
	}
	id.Facts = map[string]string{"client": client}
	return id, nil
}

// Mount mounts nothing by a client that is not there, or cut off, or not the one
// that the records have.
func (c *connector) Mount(ctx context.Context, handle, target string, o backends.MountOptions) error {
	if o.Identity != nil {
		client := o.Identity.Facts["client"]
		if is := c.client(c.host, handle); client == "" || client != is || c.isCut(client) {
			return fmt.Errorf("connected as %q, told %q: %w", is, client, ErrUnavailable)
		}
		if err := c.act("mount", client); err != nil {
			return err
		}
	}
	return c.gate.Mount(ctx, handle, target, o)
}

func (c *connector) Unmount(ctx context.Context, handle, target string) error {
	err := c.gate.Unmount(ctx, handle, target)
	client := c.client(c.host, handle)
	if err != nil || client == "" {
		return err
	}
	if err := c.act("disconnect", client); err != nil {
		return err
	}
	return os.Remove(filepath.Join(c.dir, "clients", clientFile(c.host, handle)))
}

func (c *connector) Fence(_ context.Context, f backends.Fence) error {
	client := f.Identity.Facts["client"]
	if err := c.act("fence", client); err != nil || client == "" {
		return err
	}
	if err := os.MkdirAll(filepath.Join(c.dir, "cut"), 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.dir, "cut", client), nil, 0o600)
}

func (c *connector) Unfence(_ context.Context, f backends.Fence) error {
	client := f.Identity.Facts["client"]
	if err := c.act("unfence", client); err != nil || client == "" {
		return err
	}
	if err := os.Remove(filepath.Join(c.dir, "cut", client)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// newConnectedFleet is newFleet with the volume db, in a shared pool whose fencer
// knows hosts by their connections.
func newConnectedFleet(t *testing.T, names ...string) *fleet {
	t.Helper()
	t.Parallel()
	hosttest.Root(t)
	f := &fleet{t: t, dir: hosttest.Tmpfs(t, "")}
	f.store = f.openStore("cluster.db")
	t.Cleanup(f.end)
	for _, name := range names {
		n := f.add(name)
		n.connector = newConnector(n.gates["a"], name, f.dir)
		n.terms = Exclusive{Takeover: TakeoverAuto, OnSessionLoss: standing.Keep, MountWait: 5 * time.Second}
		n.start()
	}
	f.nodes[0].must(f.nodes[0].Create(t.Context(), "db", exclusive))
	for _, n := range f.nodes {
		n.settled()
	}
	return f
}

// client is what the host, which may be away, is connected to the volume by, or "".
func (n *node) client(name string) string {
	n.t.Helper()
	last := n.fleet.nodes[len(n.fleet.nodes)-1]
	r, err := last.existing(context.Background(), name)
	n.must(err)
	return n.connector.client(n.name, r.Handle)
}

// recordedClient is the one that the owner's record has.
func (n *node) recordedClient(name string) string {
	n.t.Helper()
	if f := n.owner(name).Terms.Fence; f != nil {
		return f.Identity.Facts["client"]
	}
	return ""
}
