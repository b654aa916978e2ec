//go:build ceph && cgo

package ceph

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/ceph/go-ceph/rados"

	"github.com/dvol/dvold/backends"
)

// Address is a client of the cluster as its servers know it, "10.0.0.7:0/2816492101"
// or "[fd00::7]:0/2816492101". The number is another for each connection that a process makes,
// so that no two clients ever have the same address.
type Address string

// ParseAddress returns an error for what is not the address of one client. A host's
// would have the cluster refuse all that runs on it, its servers too.
func ParseAddress(text string) (Address, error) {
	at, nonce, _ := strings.Cut(text, "/")
	a, err := netip.ParseAddrPort(at)
	if err != nil || a.Addr().Zone() != "" || a.Addr().IsUnspecified() {
		return "", fmt.Errorf("%q is not the address of a Ceph client", text)
	}
	if n, err := strconv.ParseUint(nonce, 10, 32); err != nil || n == 0 {
		return "", fmt.Errorf("%q is not the address of one Ceph client: it has no number", text)
	}
	return Address(text), nil
}

// SameHost tells whether two clients have the same address but for what tells clients of
// one host apart.
func (a Address) SameHost(b Address) bool {
	at, _, _ := strings.Cut(string(a), "/")
	bt, _, _ := strings.Cut(string(b), "/")
	x, errA := netip.ParseAddrPort(at)
	y, errB := netip.ParseAddrPort(bt)
	return errA == nil && errB == nil && x.Addr() == y.Addr()
}

// How long an entry of the blocklist stays, which takes up a line of the cluster's map. A
// host that was suspended must not wake up to find itself let in again: its stays until it
// is taken away. Nobody takes that of a client away that has ended by all that is known.
const (
	forever = 5 * 365 * 24 * time.Hour
	ended   = 24 * time.Hour
)

// Blocklist has the cluster refuse a client, and returns nil once the cluster's map
// says so, and this connection has it: whatever a server does for this cluster's
// users from then on, it has that map, too, and refuses the client. It may be
// repeated.
func (c *Cluster) Blocklist(ctx context.Context, a Address) error {
	return c.refuse(ctx, a, forever)
}

// BlocklistEnded is Blocklist for a client that has ended, and that the cluster may not
// know to have: its entry ends by itself after a day, or when it did if there is one.
func (c *Cluster) BlocklistEnded(ctx context.Context, a Address) error {
	listed, err := c.Blocklisted(ctx, a)
	switch {
	case err != nil:
		return err
	case listed:
		return c.AwaitMap(ctx)
	}
	return c.refuse(ctx, a, ended)
}

func (c *Cluster) refuse(ctx context.Context, a Address, expire time.Duration) error {
	if _, err := ParseAddress(string(a)); err != nil {
		return err
	}
	return c.Call(ctx, func(conn *rados.Conn) error {
		// A number without a point is refused, as not of that type.
		expire := json.RawMessage(fmt.Sprintf("%d.0", int64(expire/time.Second)))
		if err := blocklist(conn, "add", a, expire); err != nil {
			return err
		}
		listed, err := blocklisted(conn, a)
		if err == nil && !listed {
			err = fmt.Errorf("the cluster took %s for its blocklist, and does not show it there: %w", a, backends.ErrUnavailable)
		}
		if err != nil {
			return err
		}
		return conn.WaitForLatestOSDMap()
	})
}

// Unblocklist undoes Blocklist. One that is not there is no error.
func (c *Cluster) Unblocklist(ctx context.Context, a Address) error {
	if _, err := ParseAddress(string(a)); err != nil {
		return err
	}
	return c.Call(ctx, func(conn *rados.Conn) error { return blocklist(conn, "rm", a, nil) })
}

// Blocklisted tells whether the cluster refuses a client.
func (c *Cluster) Blocklisted(ctx context.Context, a Address) (bool, error) {
	return Value(ctx, c, func(conn *rados.Conn) (bool, error) { return blocklisted(conn, a) })
}

// AwaitMap returns once this connection has the newest map of the cluster.
func (c *Cluster) AwaitMap(ctx context.Context) error {
	return c.Call(ctx, func(conn *rados.Conn) error { return conn.WaitForLatestOSDMap() })
}

func blocklist(conn *rados.Conn, op string, a Address, expire json.RawMessage) error {
	_, err := Monitor(conn, map[string]any{"prefix": "osd blocklist", "blocklistop": op, "addr": string(a)}, expire)
	return err
}

func blocklisted(conn *rados.Conn, a Address) (bool, error) {
	text, err := Monitor(conn, map[string]any{"prefix": "osd blocklist ls", "format": "json"}, nil)
	if err != nil {
		return false, err
	}
	// Two lists follow each other: clients, and ranges of addresses.
	for lists := json.NewDecoder(bytes.NewReader(text)); ; {
		var list []struct {
			Addr string `json:"addr"`
		}
		err := lists.Decode(&list)
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("read the cluster's blocklist: %w", err)
		}
		for _, entry := range list {
			if entry.Addr == string(a) {
				return true, nil
			}
		}
	}
}

// Monitor gives the monitors a command, and returns the answer.
func Monitor(conn *rados.Conn, command map[string]any, expire json.RawMessage) ([]byte, error) {
	if expire != nil {
		command["expire"] = expire
	}
	text, err := json.Marshal(command)
	if err != nil {
		return nil, err
	}
	answer, said, err := conn.MonCommand(text)
	if err != nil {
		if said = strings.TrimSpace(said); said != "" {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return nil, fmt.Errorf("ceph %v: %w", command["prefix"], err)
	}
	return answer, nil
}
