package dockerapi

import (
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/dvol/dvold/internal/host"
)

// Listen returns the socket that systemd hands over, if it does, and otherwise
// makes one at path. The path must stay the same over restarts: the engine
// remembers it until it is restarted itself.
func Listen(path string) (net.Listener, error) {
	handed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("take over systemd's socket: %w", err)
	}
	if len(handed) > 1 {
		return nil, fmt.Errorf("systemd handed over %d sockets, want one: check dvold.socket", len(handed))
	}
	if len(handed) == 1 && handed[0] != nil {
		return handed[0], nil
	}
	return host.ListenUnix(path, 0o660)
}
