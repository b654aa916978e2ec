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

// monitorPort2 is where monitors speak the second version of the protocol.
const monitorPort2 = 3300

// KernelMonitors returns Monitors as the kernel wants to be told, which knows no names,
// and the option by which it speaks their version of the protocol, or "".
func (c Config) KernelMonitors(ctx context.Context) (list, option string, err error) {
	var all []string
	for _, m := range c.Monitors {
		addresses, err := resolve(ctx, m)
		if err != nil {
			return "", "", fmt.Errorf("the kernel's client needs the addresses of the monitors: %w: %w", err, backends.ErrUnavailable)
		}
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
	}
	if len(all) == 0 {
		return "", "", fmt.Errorf("the kernel's client needs the addresses of the monitors: set monitors, not conf: %w", backends.ErrUnavailable)
	}
	return strings.Join(all, ","), option, nil
}

func bracketed(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// resolve returns the addresses of a monitor, whose port is 0 if it is the usual one.
func resolve(ctx context.Context, monitor string) ([]netip.AddrPort, error) {
	if a, err := netip.ParseAddr(strings.Trim(monitor, "[]")); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(a, 0)}, nil
	}
	if a, err := netip.ParseAddrPort(monitor); err == nil {
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
