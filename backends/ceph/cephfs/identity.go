package cephfs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dvol/dvold/backends"
)

// Facts of an identity: the addresses of a volume's own client, and of those before
// it of which something may be on its way still, with spaces between; and the cluster.
const (
	factAddresses = "addresses"
	factCluster   = "cluster"
)

// recorded returns the addresses that a host was recorded by, if it is one that
// is fenced by them.
func recorded(id *backends.Identity) (addresses []string, fenced bool) {
	if id == nil || id.Facts[factAddresses] == "" {
		return nil, false
	}
	return strings.Fields(id.Facts[factAddresses]), true
}

// withAddress returns an identity with one address more.
func withAddress(id backends.Identity, cluster, address string) (backends.Identity, error) {
	addresses, fenced := recorded(&id)
	if was := id.Facts[factCluster]; fenced && was != cluster {
		return id, fmt.Errorf("this host is recorded as a client of cluster %s, and this is %s: %w", was, cluster, backends.ErrUnavailable)
	}
	if !slices.Contains(addresses, address) {
		addresses = append(addresses, address)
	}
	id.Facts = map[string]string{factAddresses: strings.Join(addresses, " "), factCluster: cluster}
	return id, nil
}
