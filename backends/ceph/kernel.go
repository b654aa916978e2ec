package ceph

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
)

// AddKernelKey puts the user's key into the kernel's keyring of this thread, which the
// caller has locked, for nobody to see it in what the kernel is told: the option
// key=NAME has it find the key. forget takes it away again.
func (c Config) AddKernelKey() (name string, forget func(), err error) {
	path := c.KeyringPath()
	text, err := os.ReadFile(path)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", err, backends.ErrUnavailable)
	}
	name = "client." + c.User
	key, err := base64.StdEncoding.DecodeString(keyOf(string(text), name))
	if err != nil || len(key) == 0 {
		return "", nil, fmt.Errorf("%s has no key for %s: %w", path, name, backends.ErrUnavailable)
	}
	id, err := unix.AddKey("ceph", name, key, unix.KEY_SPEC_THREAD_KEYRING)
	if err != nil {
		return "", nil, os.NewSyscallError("add_key", err)
	}
	return name, func() { _, _ = unix.KeyctlInt(unix.KEYCTL_UNLINK, id, unix.KEY_SPEC_THREAD_KEYRING, 0, 0) }, nil
}

// keyOf returns the key of a user in a keyring file, or nothing.
func keyOf(keyring, user string) string {
	section := ""
	for line := range strings.Lines(keyring) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if ok && section == user && strings.TrimSpace(name) == "key" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// Where monitors speak the first version of the protocol, and the second.
const (
	monitorPort1 = 6789
	monitorPort2 = 3300
)

// KernelMonitors returns Monitors as the kernel wants to be told, which knows no names,
// and the option by which it speaks their version of the protocol, or "".
func (c Config) KernelMonitors(ctx context.Context) (list, option string, err error) {
	addresses, err := c.MonitorAddresses(ctx)
	if err != nil {
		return "", "", fmt.Errorf("the kernel's client needs the addresses of the monitors: %w: %w", err, backends.ErrUnavailable)
	}
	var all []string
	for _, a := range addresses {
		if a.Port() == monitorPort2 {
			option = "ms_mode=prefer-crc"
		}
		if a.Port() == 0 {
			all = append(all, bracketed(a.Addr()))
		} else {
			all = append(all, a.String())
		}
	}
	if len(all) == 0 {
		return "", "", fmt.Errorf("the kernel's client needs the addresses of the monitors: set monitors, not conf: %w", backends.ErrUnavailable)
	}
	return strings.Join(all, ","), option, nil
}

// MonitorAddresses are those of Monitors, whose names it resolves, beside an error if it can't resolve
// all. The port is 0 where none is said.
func (c Config) MonitorAddresses(ctx context.Context) (all []netip.AddrPort, err error) {
	for _, m := range c.Monitors {
		some, failed := resolve(ctx, m)
		if err == nil {
			err = failed
		}
		all = append(all, some...)
	}
	return all, err
}

func bracketed(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// ParseMonitor parses the address of a monitor. The port is 0 if there is none, and ok false if it
// is no address, such as a name.
func ParseMonitor(text string) (a netip.AddrPort, ok bool) {
	if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return netip.AddrPortFrom(a, 0), true
	}
	a, err := netip.ParseAddrPort(text)
	return a, err == nil
}

// SameMonitor tells whether two addresses are those of one monitor, which may be called by either of
// its usual ports, or by none.
func SameMonitor(a, b netip.AddrPort) bool {
	port := func(a netip.AddrPort) uint16 {
		if p := a.Port(); p != 0 && p != monitorPort2 {
			return p
		}
		return monitorPort1
	}
	return a.Addr().Unmap() == b.Addr().Unmap() && port(a) == port(b)
}

// resolve returns the addresses of a monitor.
func resolve(ctx context.Context, monitor string) ([]netip.AddrPort, error) {
	if a, ok := ParseMonitor(monitor); ok {
		return []netip.AddrPort{a}, nil
	}
	name, port := monitor, 0
	if h, p, err := net.SplitHostPort(monitor); err == nil {
		if port, err = net.DefaultResolver.LookupPort(ctx, "tcp", p); err != nil {
			return nil, err
		}
		name = h
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	var all []netip.AddrPort
	for _, a := range found {
		all = append(all, netip.AddrPortFrom(a.Unmap(), uint16(port)))
	}
	return all, err
}
