package dockerapi

import (
	"context"
	"net"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
)

type peerKey struct{}

// withPeer notes which process is at the other end of a connection. An engine
// that was restarted is told from the one before by it.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	unixConn, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err != nil || cred == nil || cred.Pid <= 0 {
		return ctx // as when the engine is in another PID namespace
	}
	p, err := host.FindProcess(int(cred.Pid))
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, p)
}

// peer returns the process that sent the request, zero if it isn't known.
func peer(ctx context.Context) host.Process {
	p, _ := ctx.Value(peerKey{}).(host.Process)
	return p
}
