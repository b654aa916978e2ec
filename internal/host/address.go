package host

import (
	"context"
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
	own, err := localAddrs()
	return slices.Contains(own, a.Unmap()), err
}

// SourceTo is the address that the kernel takes for the way to a HOST:PORT. Nothing is sent.
func SourceTo(ctx context.Context, address string) (netip.Addr, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", address)
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

func localAddrs() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var own []netip.Addr
	for _, n := range all {
		if prefix, err := netip.ParsePrefix(n.String()); err == nil {
			own = append(own, prefix.Addr().Unmap())
		}
	}
	return own, nil
}
