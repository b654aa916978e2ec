package cephfs

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"time"
)

// askTime is how long a client may take to say how it is, and maxAnswer how much it
// may say.
const (
	askTime   = 5 * time.Second
	maxAnswer = 1 << 20
)

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
