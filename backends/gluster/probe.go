package gluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
)

// glusterdPort is where a server tells clients of the bricks.
const glusterdPort = "24007"

// probeTime is how long servers may take to say a word.
const probeTime = 3 * time.Second

// answering returns the servers, the first of them one that answers: a client
// waits without end for a server that takes connections and says nothing, as one
// does that is frozen, instead of trying the next.
func (s spec) answering(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	type answer struct {
		server string
		err    error
	}
	answers := make(chan answer, len(s.servers))
	for _, server := range s.servers {
		go func() { answers <- answer{server, s.probe(ctx, server)} }()
	}
	var unknown *net.DNSError
	var speech error
	names := 0
	for range s.servers {
		a := <-answers
		if a.err == nil {
			rest := slices.DeleteFunc(slices.Clone(s.servers), func(server string) bool { return server == a.server })
			return append([]string{a.server}, rest...), nil
		}
		if errors.As(a.err, &unknown) {
			names++
		}
		if errors.Is(a.err, errOnlyTLS) || errors.Is(a.err, errNoTLS) {
			speech = fmt.Errorf("server %s %w: %w", a.server, a.err, backends.ErrUnavailable)
		}
	}
	if speech != nil {
		return nil, speech
	}
	problem := "answers"
	if names == len(s.servers) {
		problem = "can be found by its name"
	}
	return nil, fmt.Errorf("no server of the pool %s (%s): %w", problem, strings.Join(s.servers, ", "), backends.ErrUnavailable)
}

// probe makes a call that does nothing: procedure 0 of the program by which
// clients shake hands with glusterd (RFC 5531; GLUSTER_HNDSK_PROGRAM in
// GlusterFS's protocol-common.h). A server that speaks TLS hangs up on that, or
// sends an alert, which is an answer, too.
func (s spec) probe(ctx context.Context, server string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(server, glusterdPort))
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	const call, version, program, programVersion, null, lastFragment = 0, 2, 14398633, 2, 0, 1 << 31
	var message []byte
	// Record mark, transaction, then neither a credential nor a verifier.
	for _, word := range []uint32{lastFragment | 40, 1, call, version, program, programVersion, null, 0, 0, 0, 0} {
		message = binary.BigEndian.AppendUint32(message, word)
	}
	if _, err := conn.Write(message); err != nil {
		return err
	}
	reply := make([]byte, 4)
	_, err = io.ReadFull(conn, reply)
	hungUp := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.ECONNRESET)
	switch {
	case err != nil && !hungUp:
		return err
	case hungUp || reply[0] == tlsAlert:
		if !s.tls {
			return errOnlyTLS
		}
	case s.tls:
		return errNoTLS
	}
	return nil
}

// tlsAlert begins an alert (RFC 8446, section 5.1), and no record mark.
const tlsAlert = 21

// What is wrong with a server that answers.
var (
	errOnlyTLS = errors.New("hangs up, as one does that speaks nothing but TLS: then set the pool's tls")
	errNoTLS   = errors.New("speaks no TLS: don't set the pool's tls, or have glusterd speak it (/var/lib/glusterd/secure-access)")
)
