//go:build ceph && cgo

package ceph

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/ceph/go-ceph/rados"
)

// FullPools are the pools of the cluster in which nothing can be written, for they
// have reached their quota, or the disks are full.
func FullPools(conn *rados.Conn) ([]string, error) {
	text, err := Monitor(conn, map[string]any{"prefix": "osd dump", "format": "json"}, nil)
	if err != nil {
		return nil, err
	}
	var dump struct {
		Flags string `json:"flags"`
		Pools []struct {
			Name  string `json:"pool_name"`
			Flags string `json:"flags_names"`
		} `json:"pools"`
	}
	if err := json.Unmarshal(text, &dump); err != nil {
		return nil, fmt.Errorf("read the cluster's map: %w", err)
	}
	var full []string
	for _, pool := range dump.Pools {
		if isFull(pool.Flags) || isFull(dump.Flags) {
			full = append(full, pool.Name)
		}
	}
	return full, nil
}

func isFull(flags string) bool { return slices.Contains(strings.Split(flags, ","), "full") }
