package cephfs

import (
	"fmt"
	"regexp"

	"github.com/dvol/dvold/backends"
)

// Facts of an identity: the address of a volume's own client, and the cluster.
const (
	factAddress = "address"
	factCluster = "cluster"
)

// domainPattern is what the domains of these fences are like: each is one volume.
var domainPattern = regexp.MustCompile(`^volume/[^/]+/cephfs\.[0-9a-f]{16}$`)

// domain is a volume as a fence covers it.
func (p *Pool) domain(handle string) string {
	return fmt.Sprintf("volume/%s/cephfs.%s", p.name, ownKey(handle))
}

// recorded returns the address of the client that a host was recorded by for a volume, if it is fenced by
// that: not if the identity is another fencer's, such as a command's.
func (p *Pool) recorded(handle string, id *backends.Identity) (address string, fenced bool, err error) {
	switch {
	case id == nil || !domainPattern.MatchString(id.Domain):
		return "", false, nil
	case id.Domain != p.domain(handle):
		return "", true, fmt.Errorf("what was recorded to fence this host by, %q, is not this volume: %w", id.Domain, backends.ErrUnavailable)
	case id.Facts[factAddress] == "":
		return "", true, fmt.Errorf("no client is recorded by which this host could be fenced: %w", backends.ErrUnavailable)
	}
	return id.Facts[factAddress], true, nil
}
