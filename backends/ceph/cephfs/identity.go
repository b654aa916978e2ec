package cephfs

import "github.com/dvol/dvold/backends"

// Facts of an identity: the address of a volume's own client, and the cluster.
const (
	factAddress = "address"
	factCluster = "cluster"
)

// recorded returns the address that a host was recorded by, if it is one that is
// fenced by it.
func recorded(id *backends.Identity) (address string, fenced bool) {
	if id == nil {
		return "", false
	}
	address = id.Facts[factAddress]
	return address, address != ""
}
