package host

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Connection is a TCP connection that is established.
type Connection struct{ Local, Remote netip.AddrPort }

// Connections returns those of the process, in its network namespace. One that
// has ended is no error, and has none.
func (p Process) Connections() ([]Connection, error) {
	sockets, err := p.sockets()
	if err != nil || len(sockets) == 0 {
		return nil, err
	}
	var all []Connection
	for _, file := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", p.PID, file))
		if ended(err) { // or there is no IP of that version
			continue
		}
		if err != nil {
			return nil, err
		}
		found, err := parseConnections(text, sockets)
		if err != nil {
			return nil, fmt.Errorf("parse /proc/%d/net/%s: %w", p.PID, file, err)
		}
		all = append(all, found...)
	}
	if !p.Alive() { // then it was another's
		return nil, nil
	}
	return all, nil
}

// Peers are the addresses of other hosts that the process has connections with,
// each once.
func (p Process) Peers() ([]netip.Addr, error) {
	all, err := p.Connections()
	if err != nil || len(all) == 0 {
		return nil, err
	}
	own, err := localAddrs()
	if err != nil {
		return nil, err
	}
	var peers []netip.Addr
	for _, c := range all {
		if a := c.Remote.Addr(); !a.IsLoopback() && !slices.Contains(own, a) && !slices.Contains(peers, a) {
			peers = append(peers, a)
		}
	}
	return peers, nil
}

// sockets are the inodes of the sockets that the process has open.
func (p Process) sockets() (map[string]bool, error) {
	dir := fmt.Sprintf("/proc/%d/fd", p.PID)
	entries, err := os.ReadDir(dir)
	if ended(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	sockets := make(map[string]bool)
	for _, e := range entries {
		link, err := os.Readlink(dir + "/" + e.Name())
		if ended(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if inode, ok := strings.CutPrefix(link, "socket:["); ok {
			sockets[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return sockets, nil
}

func ended(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// parseConnections returns what the text of /proc/net/tcp, or tcp6, says of some
// sockets; see proc_net_tcp in the kernel's documentation, Documentation/networking/proc_net_tcp.rst.
func parseConnections(text []byte, sockets map[string]bool) ([]Connection, error) {
	const established, local, remote, state, inode = "01", 1, 2, 3, 9
	var all []Connection
	first := true
	for line := range bytes.Lines(text) {
		if first { // the names of the fields
			first = false
			continue
		}
		fields := strings.Fields(string(line))
		if len(fields) <= inode {
			return nil, fmt.Errorf("%q is too short", line)
		}
		if fields[state] != established || !sockets[fields[inode]] {
			continue
		}
		var c Connection
		var err error
		if c.Local, err = parseAddrPort(fields[local]); err != nil {
			return nil, err
		}
		if c.Remote, err = parseAddrPort(fields[remote]); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// parseAddrPort parses an address of four-byte words in the order of this
// machine, a colon and a port, in hexadecimal digits.
func parseAddrPort(text string) (netip.AddrPort, error) {
	address, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(address)
	if err != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", text)
	}
	for word := range slices.Chunk(raw, 4) {
		binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
	}
	number, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q has no port", text)
	}
	addr, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), nil
}
