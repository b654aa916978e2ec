//go:build ceph && cgo

package cephfs

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ceph/go-ceph/rados"

	"github.com/dvol/dvold/backends/ceph"
)

// Servers are all servers of the cluster: a client is soon connected to those that it
// has anything for.
func (p FencingPool) Servers(ctx context.Context, handle, target string) ([]netip.Addr, error) {
	connected, err := p.Pool.Servers(ctx, handle, target)
	if err != nil {
		return nil, err
	}
	all, err := ceph.Value(ctx, p.cluster, clusterServers)
	if err != nil {
		return nil, err
	}
	all = append(all, connected...)
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all), nil
}

// clusterServers asks the monitors where monitors, MDS and OSDs are.
func clusterServers(conn *rados.Conn) (all []netip.Addr, err error) {
	for _, command := range []string{"mon dump", "fs dump", "osd dump"} {
		text, err := ceph.Monitor(conn, map[string]any{"prefix": command, "format": "json"}, nil)
		if err != nil {
			return nil, err
		}
		found, err := parseServers(text)
		if err != nil {
			return nil, fmt.Errorf("answer to %s: %w", command, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

// addresses are where one server listens.
type addresses struct {
	All []struct {
		Addr string `json:"addr"`
	} `json:"addrvec"`
}

// server is an entry of one of the maps.
type server struct {
	Public addresses `json:"public_addrs"` // of a monitor or an OSD
	Own    addresses `json:"addrs"`        // of an MDS
}

// parseServers parses a map of the cluster's. One that is down has the address 0.0.0.0,
// or none.
func parseServers(text []byte) (all []netip.Addr, err error) {
	var maps struct {
		Monitors    []server `json:"mons"`
		OSDs        []server `json:"osds"`
		Standbys    []server `json:"standbys"`
		FileSystems []struct {
			MDSMap struct {
				Info map[string]server `json:"info"`
			} `json:"mdsmap"`
		} `json:"filesystems"`
	}
	if err := json.Unmarshal(text, &maps); err != nil {
		return nil, err
	}
	servers := slices.Concat(maps.Monitors, maps.OSDs, maps.Standbys)
	for _, f := range maps.FileSystems {
		for _, s := range f.MDSMap.Info {
			servers = append(servers, s)
		}
	}
	for _, s := range servers {
		for _, a := range slices.Concat(s.Public.All, s.Own.All) {
			at, err := netip.ParseAddrPort(a.Addr)
			if err != nil {
				return nil, err
			}
			if !at.Addr().IsUnspecified() {
				all = append(all, at.Addr())
			}
		}
	}
	return all, nil
}
