package cut

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// socket is a TCP socket of this network namespace; see sock_diag(7).
type socket struct {
	family byte
	id     [48]byte // as the kernel names it
	remote netip.AddrPort
	unsent uint32 // bytes that were written to it and not acknowledged
	inode  uint64 // 0: no process has it any more
}

func (s socket) String() string {
	return fmt.Sprintf("the socket to %v with %d bytes to send", s.remote, s.unsent)
}

// The messages and structures of linux/sock_diag.h and linux/inet_diag.h.
const (
	diagByFamily = 20 // SOCK_DIAG_BY_FAMILY
	diagDestroy  = 21 // SOCK_DESTROY
	requestSize  = 56 // struct inet_diag_req_v2
	answerSize   = 72 // struct inet_diag_msg
)

// unsentStates are those of TCP in which a socket may have something to send:
// ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK and CLOSING.
const unsentStates = 1<<1 | 1<<4 | 1<<5 | 1<<8 | 1<<9 | 1<<11

// unsentTo returns the sockets that have something to send to the servers.
func unsentTo(servers []netip.Prefix) ([]socket, error) {
	c, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var found []socket
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		request := make([]byte, requestSize)
		request[0], request[1] = family, unix.IPPROTO_TCP
		binary.NativeEndian.PutUint32(request[4:], unsentStates)
		answers, err := c.Execute(netlink.Message{
			Header: netlink.Header{Type: diagByFamily, Flags: netlink.Request | netlink.Dump},
			Data:   request,
		})
		if errors.Is(err, fs.ErrNotExist) && family == unix.AF_INET6 { // it is switched off
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, answer := range answers {
			s, err := parseSocket(answer.Data)
			if err != nil {
				return nil, err
			}
			if s.unsent > 0 && slices.ContainsFunc(servers, func(p netip.Prefix) bool { return unmapped(p).Contains(s.remote.Addr()) }) {
				found = append(found, s)
			}
		}
	}
	return found, nil
}

func parseSocket(data []byte) (s socket, err error) {
	if len(data) < answerSize {
		return socket{}, fmt.Errorf("parse socket: %d bytes are too short", len(data))
	}
	s.family = data[0]
	copy(s.id[:], data[4:])
	port, address := binary.BigEndian.Uint16(s.id[2:]), s.id[20:36]
	if s.family == unix.AF_INET {
		address = address[:4]
	}
	addr, _ := netip.AddrFromSlice(address)
	s.remote = netip.AddrPortFrom(addr.Unmap(), port)
	s.unsent = binary.NativeEndian.Uint32(data[60:])
	s.inode = uint64(binary.NativeEndian.Uint32(data[68:]))
	return s, nil
}

// destroy ends a socket, and what it has to send is forgotten. One that is gone
// is no error.
func (s socket) destroy() error {
	c, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	request := make([]byte, requestSize)
	request[0], request[1] = s.family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(request[4:], unsentStates)
	copy(request[8:], s.id[:])
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: diagDestroy, Flags: netlink.Request | netlink.Acknowledge},
		Data:   request,
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// silence destroys the sockets to the storage that nobody has any more, and
// returns the others that have something to send and may do so for the volume.
// If all the file systems were the volume's alone, those of processes that live
// are not such: who served one was killed.
func (r *run) silence(l *look) (left []string, err error) {
	if len(r.v.Servers) == 0 {
		return nil, nil
	}
	shared := slices.ContainsFunc(r.targets, func(t target) bool { return !t.sole })
	for again := false; ; again = true {
		found, err := unsentTo(r.v.Servers)
		if err != nil {
			return nil, fmt.Errorf("look at sockets: %w", err)
		}
		left = nil
		destroyed := false
		for _, s := range found {
			switch {
			case s.inode == 0 && !again:
				if err := s.destroy(); err != nil {
					return nil, fmt.Errorf("destroy %v: %w", s, err)
				}
				destroyed = true
				r.note(func(report *Report) { report.Destroyed = append(report.Destroyed, s.String()) })
				r.log.Warn("socket to the storage was destroyed", "volume", r.v.ID, "server", s.remote, "unsent", s.unsent)
			case s.inode == 0 || shared || !l.owned[s.inode]:
				left = append(left, s.String())
			}
		}
		if !destroyed {
			return left, nil
		}
	}
}
