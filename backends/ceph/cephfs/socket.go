package cephfs

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
)

// askTime is how long a client may take to say how it is, and maxAnswer how much it
// may say.
const (
	askTime   = 5 * time.Second
	maxAnswer = 1 << 20
)

// sharedSocket is where the shared client says how it is that is a process of that number.
func (p *Pool) sharedSocket(pid string) string {
	return filepath.Join(p.dir, sharedKey+"."+pid+".sock")
}

// cutOff tells whether the cluster refuses a shared client, which then is of no use any
// more: an MDS has that done to one that keeps others waiting for session_timeout.
func (p *Pool) cutOff(client host.Process) bool {
	now, err := askStatus(context.Background(), p.sharedSocket(strconv.Itoa(client.PID)))
	return err == nil && now.Blocklisted
}

// removeSockets takes away what shared clients have left that were killed.
func (p *Pool) removeSockets() {
	sockets, _ := filepath.Glob(p.sharedSocket("*")) // its only error is a pattern's
	for _, socket := range sockets {
		conn, err := net.Dial("unix", socket)
		switch {
		case err == nil:
			conn.Close()
		case errors.Is(err, unix.ECONNREFUSED):
			_ = os.Remove(socket) // else it is at the next opportunity
		}
	}
}

// status is what a client says of itself.
type status struct {
	// Address is where the cluster knows it, as a blocklist has it: IP:PORT/NONCE.
	Address string `json:"addr_str"`
	// Blocklisted says that the cluster has cut it off, and that it knows so.
	Blocklisted bool `json:"blocklisted"`
}

// askStatus asks the client that listens on a socket. It is the way of the admin
// socket of Ceph's programs (src/common/admin_socket.cc): a command and a zero byte,
// then the length of the answer as a big-endian word of 32 bits, and the answer.
func askStatus(ctx context.Context, socket string) (s status, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return s, fmt.Errorf("ask the client: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	if _, err := conn.Write([]byte(`{"prefix":"status"}` + "\x00")); err != nil {
		return s, fmt.Errorf("ask the client: %w", err)
	}
	var length uint32
	if err := binary.Read(conn, binary.BigEndian, &length); err != nil {
		return s, fmt.Errorf("answer of the client: %w", err)
	}
	if length > maxAnswer {
		return s, fmt.Errorf("answer of the client: %d bytes", length)
	}
	answer := make([]byte, length)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return s, fmt.Errorf("answer of the client: %w", err)
	}
	if err := json.Unmarshal(answer, &s); err != nil {
		return s, fmt.Errorf("answer of the client: %w", err)
	}
	return s, nil
}
