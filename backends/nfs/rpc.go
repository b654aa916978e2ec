package nfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// Programs of ONC RPC, and the port of the one that tells those of others.
const (
	programPortmap = 100000
	programNFS     = 100003
	programStatus  = 100024 // rpc.statd(8)

	portmapPort = 111
)

// answerTime is how long a server may take to say a word.
const answerTime = 3 * time.Second

// maxReply is more than any reply to what is asked here.
const maxReply = 1 << 10

// errVersion means that a server does not speak a version of a program.
var errVersion = errors.New("version not supported")

// call makes a remote procedure call (RFC 5531) of a few words, with neither a
// credential nor a verifier.
func call(ctx context.Context, to netip.AddrPort, program, version, procedure uint32, args ...uint32) (results []uint32, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	const transaction, request, rpcVersion, lastFragment = 1, 0, 2, 1 << 31
	words := append([]uint32{transaction, request, rpcVersion, program, version, procedure, 0, 0, 0, 0}, args...)
	message := binary.BigEndian.AppendUint32(nil, lastFragment|uint32(4*len(words)))
	for _, word := range words {
		message = binary.BigEndian.AppendUint32(message, word)
	}
	if _, err := conn.Write(message); err != nil {
		return nil, err
	}
	mark := make([]byte, 4)
	if _, err := io.ReadFull(conn, mark); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(mark) &^ lastFragment
	if size > maxReply {
		return nil, fmt.Errorf("a reply of %d bytes is none to the question", size)
	}
	reply := make([]byte, size)
	if _, err := io.ReadFull(conn, reply); err != nil {
		return nil, err
	}
	return parseReply(reply)
}

// parseReply returns the results of a call.
func parseReply(reply []byte) (results []uint32, err error) {
	var words []uint32
	for ; len(reply) >= 4; reply = reply[4:] {
		words = append(words, binary.BigEndian.Uint32(reply))
	}
	// Transaction, that it is a reply, that it was accepted, a verifier's kind and length.
	const isReply, accepted, head = 1, 0, 6
	if len(words) < head || words[1] != isReply || words[2] != accepted || words[4] != 0 {
		return nil, errors.New("the call was refused")
	}
	switch status, rest := words[5], words[head:]; {
	case status == 0:
		return rest, nil
	case status == 1:
		return nil, errors.New("there is no such program")
	case status == 2 && len(rest) >= 2:
		return nil, fmt.Errorf("it speaks versions %d to %d: %w", rest[0], rest[1], errVersion)
	default:
		return nil, fmt.Errorf("the call failed with status %d", status)
	}
}

// ask asks a server for a word, as calls of the file system wait without end for
// one that gives none.
func (c Config) ask(ctx context.Context, server netip.Addr) error {
	number, _, _ := strings.Cut(c.versions()[0], ".")
	version, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return err
	}
	const null = 0
	_, err = call(ctx, netip.AddrPortFrom(server, uint16(c.Port)), programNFS, uint32(version), null)
	switch {
	case errors.Is(err, errVersion):
		return fmt.Errorf("server %s does not speak version %s of NFS: %w: %w", c.Server, number, err, backends.ErrUnavailable)
	case err != nil && hasEnded(ctx):
		return fmt.Errorf("server %s gives no answer: %w: %w", c.Server, backends.ErrUnavailable, context.Cause(ctx))
	case err != nil:
		return fmt.Errorf("server %s gives no answer: %w: %w", c.Server, err, backends.ErrUnavailable)
	}
	return nil
}

// hasEnded tells whether ctx has ended. The network may notice first that its
// time is up.
func hasEnded(ctx context.Context) bool {
	if end, ok := ctx.Deadline(); ok && !time.Now().Before(end) {
		<-ctx.Done()
	}
	return ctx.Err() != nil
}

// find resolves the name of the server, to an address that answers if there is
// one.
func (c Config) find(ctx context.Context) (way, error) {
	limited, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(limited, "ip", c.Server)
	if err != nil {
		return way{}, fmt.Errorf("address of server %s: %w: %w", c.Server, err, backends.ErrUnavailable)
	}
	for _, a := range found {
		w := way{server: a.Unmap()}
		if err = c.ask(ctx, w.server); err != nil {
			continue
		}
		if w.client, err = host.SourceTo(ctx, netip.AddrPortFrom(w.server, portmapPort).String()); err == nil {
			return w, nil
		}
		err = fmt.Errorf("way to server %s: %w: %w", w.server, err, backends.ErrUnavailable)
	}
	return way{}, err
}

// checkLocks returns an error, with what would help, if locks of version 3 can't
// work: the kernel leaves a part of them to rpc.statd on this host.
func (c Config) checkLocks(ctx context.Context) error {
	if c.Version != "3" || c.has("nolock") {
		return nil
	}
	const portmapVersion, getPort, statusVersion, tcp = 2, 3, 1, 6
	here := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), portmapPort)
	ports, err := call(ctx, here, programPortmap, portmapVersion, getPort, programStatus, statusVersion, tcp, 0)
	if err == nil && len(ports) == 1 && ports[0] != 0 {
		return nil
	}
	return fmt.Errorf("rpc.statd does not run on this host, without which locks fail in version 3: start rpcbind and rpc-statd (package nfs-common), "+
		"take a later version, or set nolock in options, with which hosts don't see each other's locks: %w", backends.ErrUnavailable)
}
