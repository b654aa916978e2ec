//go:build ceph && cgo

package cephfs

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ceph/go-ceph/cephfs"
	"github.com/ceph/go-ceph/rados"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
	"github.com/dvol/dvold/internal/host"
)

// refusedPause is how often the servers are asked whether they are without a client.
const refusedPause = 100 * time.Millisecond

// fsid identifies the cluster.
func (p FencingPool) fsid(ctx context.Context) (string, error) {
	return ceph.Value(ctx, p.cluster, func(conn *rados.Conn) (string, error) { return conn.GetFSID() })
}

// checkMayFence returns an error unless the cluster would do what a fence asks for.
// What is not on its blocklist is not taken off it by anybody.
func (p FencingPool) checkMayFence(ctx context.Context) error {
	const nobody = ceph.Address("192.0.2.1:0/1") // of no host: RFC 5737
	if err := p.cluster.Unblocklist(ctx, nobody); err != nil {
		return err
	}
	_, err := p.sessions(ctx)
	return err
}

// awaitRefused waits until no MDS has a session with a client that is on the blocklist:
// each takes some from its clients until it has read that.
func (p FencingPool) awaitRefused(ctx context.Context, a ceph.Address) error {
	for {
		sessions, err := p.sessions(ctx)
		if err == nil {
			if !sessions[a] {
				return nil
			}
			err = fmt.Errorf("an MDS still has %s for a client: %w", a, backends.ErrUnavailable)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, context.Cause(ctx))
		case <-time.After(refusedPause):
		}
	}
}

// sessions are the addresses that the file system's MDS have sessions with.
func (p FencingPool) sessions(ctx context.Context) (map[ceph.Address]bool, error) {
	return ceph.Value(ctx, p.cluster, func(conn *rados.Conn) (map[ceph.Address]bool, error) {
		all := make(map[ceph.Address]bool)
		err := p.eachRank(conn, func(tell tell) error {
			sessions, err := tell.sessions()
			for _, s := range sessions {
				all[s.address()] = true
			}
			return err
		})
		return all, err
	})
}

// statusOf is what the MDS say of the client of that number: one that has no session is
// refused, or was given up.
func (p FencingPool) statusOf(ctx context.Context, client string) (status, error) {
	return ceph.Value(ctx, p.cluster, func(conn *rados.Conn) (now status, err error) {
		now.Blocklisted = true
		err = p.eachRank(conn, func(tell tell) error {
			sessions, err := tell.sessions()
			for _, s := range sessions {
				if fmt.Sprint(s.ID) == client {
					now = status{Address: string(s.address())}
				}
			}
			return err
		})
		return now, err
	})
}

// evict ends the sessions of the client that this host had at a mountpoint, and has
// the cluster refuse it.
func (p FencingPool) evict(ctx context.Context, mountpoint string) error {
	return p.evictAll(ctx, func(s session) bool { return p.isOursAt(s, mountpoint) })
}

// isOursAt tells whether a session is that of a client of this host at a mountpoint. The volume's next
// owner has its client at the same, and may have the name of this host, but not its address.
func (p FencingPool) isOursAt(s session, mountpoint string) bool {
	if !p.isOurs(s) || s.Client.Mountpoint != mountpoint {
		return false
	}
	at, err := netip.ParseAddrPort(s.Entity.Addr.Addr)
	if err != nil {
		return false
	}
	local, err := host.IsLocal(at.Addr())
	return err == nil && local
}

func (p FencingPool) evictAll(ctx context.Context, which func(session) bool) error {
	return p.cluster.Call(ctx, func(conn *rados.Conn) error {
		return p.eachRank(conn, func(tell tell) error {
			sessions, err := tell.sessions()
			for _, s := range sessions {
				if err == nil && which(s) {
					err = tell.evict(s.ID)
				}
			}
			return err
		})
	})
}

// isOurs tells whether a session is that of a client of the pool on this host, by what the host calls itself.
func (p FencingPool) isOurs(s session) bool {
	hostname, err := os.Hostname()
	return err == nil && s.Client.Host == hostname && s.Client.User == p.config.Cluster.User && (s.Client.Kernel != "" || filepath.Dir(s.Client.Mountpoint) == p.dir)
}

// tell gives an MDS a command, and returns the answer.
type tell func(command map[string]any) ([]byte, error)

// eachRank calls f for each MDS of the file system. It is an error if one of them can't
// be asked, or is not at work: it may be replaced by one that takes over its clients.
func (p FencingPool) eachRank(conn *rados.Conn, f func(tell) error) error {
	ranks, err := activeRanks(conn, p.config.FileSystem)
	if err != nil {
		return err
	}
	client, err := cephfs.CreateFromRados(conn)
	if err != nil {
		return err
	}
	defer func() { _ = client.Release() }() // it has mounted nothing
	if err := client.Init(); err != nil {
		return err
	}
	for _, rank := range ranks {
		err := f(func(command map[string]any) ([]byte, error) {
			text, err := json.Marshal(command)
			if err != nil {
				return nil, err
			}
			answer, said, err := client.MdsCommand(rank, [][]byte{text})
			if err != nil {
				err = fmt.Errorf("%v of MDS %s: %w: %s", command["prefix"], rank, err, strings.TrimSpace(said))
			}
			return answer, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// session is one that an MDS has with a client.
type session struct {
	ID     int64 `json:"id"`
	Entity struct {
		Addr struct {
			Addr  string `json:"addr"`
			Nonce uint32 `json:"nonce"`
		} `json:"addr"`
	} `json:"entity"`
	Client struct {
		User       string `json:"entity_id"`
		Host       string `json:"hostname"`
		Mountpoint string `json:"mount_point"`    // of ceph-fuse
		Kernel     string `json:"kernel_version"` // of the kernel's client
		Root       string `json:"root"`
	} `json:"client_metadata"`
}

func (s session) address() ceph.Address {
	return ceph.Address(fmt.Sprintf("%s/%d", s.Entity.Addr.Addr, s.Entity.Addr.Nonce))
}

// sessions are those of an MDS.
func (t tell) sessions() (all []session, err error) {
	text, err := t(map[string]any{"prefix": "session ls", "format": "json"})
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	return all, err
}

// evict has an MDS end a session, and the cluster refuse its client.
func (t tell) evict(session int64) error {
	_, err := t(map[string]any{"prefix": "session evict", "filters": []string{fmt.Sprint("id=", session)}})
	return err
}

// activeRanks are the MDS of a file system that have clients, as commands name them.
func activeRanks(conn *rados.Conn, name string) ([]string, error) {
	text, err := ceph.Monitor(conn, map[string]any{"prefix": "fs dump", "format": "json"}, nil)
	if err != nil {
		return nil, err
	}
	return parseRanks(text, name)
}

// parseRanks parses the answer to "fs dump" of a monitor, for a file system; "" is the
// default one.
func parseRanks(text []byte, name string) ([]string, error) {
	var dump struct {
		Default     int `json:"default_fscid"`
		FileSystems []struct {
			ID     int `json:"id"`
			MDSMap struct {
				Name string `json:"fs_name"`
				In   []int  `json:"in"`
				Info map[string]struct {
					Rank  int    `json:"rank"`
					State string `json:"state"`
				} `json:"info"`
			} `json:"mdsmap"`
		} `json:"filesystems"`
	}
	if err := json.Unmarshal(text, &dump); err != nil {
		return nil, fmt.Errorf("read the map of MDS: %w", err)
	}
	for _, f := range dump.FileSystems {
		m := f.MDSMap
		if m.Name != name && (name != "" || f.ID != dump.Default) {
			continue
		}
		active := make(map[int]bool)
		for _, daemon := range m.Info {
			if daemon.State == "up:active" {
				active[daemon.Rank] = true
			}
		}
		var ranks []string
		for _, rank := range m.In {
			if !active[rank] {
				return nil, fmt.Errorf("MDS %d of CephFS %s is not active: see ceph fs status: %w", rank, m.Name, backends.ErrUnavailable)
			}
			ranks = append(ranks, fmt.Sprintf("%s:%d", m.Name, rank))
		}
		if len(ranks) == 0 {
			return nil, fmt.Errorf("CephFS %s has no MDS: %w", m.Name, backends.ErrUnavailable)
		}
		return ranks, nil
	}
	names := make(map[string]bool)
	for _, f := range dump.FileSystems {
		names[f.MDSMap.Name] = true
	}
	return nil, fmt.Errorf("the cluster has no CephFS %q, but %q: %w", name, slices.Sorted(maps.Keys(names)), backends.ErrUnavailable)
}
