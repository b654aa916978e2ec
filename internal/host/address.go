package host

import (
	"net"
	"net/netip"
	"slices"
)

// IsLocal tells whether an interface of this host, or of the network namespace
// that this process is in, has the address.
func IsLocal(a netip.Addr) (bool, error) {
	if a.IsLoopback() {
		return true, nil
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(all, func(n net.Addr) bool {
		prefix, err := netip.ParsePrefix(n.String())
		return err == nil && prefix.Addr().Unmap() == a.Unmap()
	}), nil
}
