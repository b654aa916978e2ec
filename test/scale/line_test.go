package scale_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dvol/dvold/coordination/consul/consultest"
)

// counts are requests by kind, and what was answered.
type counts struct {
	requests [consultest.Kinds]int64
	bytes    int64 // of the answers
}

func (c counts) all() (n int64) {
	for _, some := range c.requests {
		n += some
	}
	return n
}

func (c counts) since(before counts) counts {
	for k := range consultest.Kinds {
		c.requests[k] -= before.requests[k]
	}
	c.bytes -= before.bytes
	return c
}

// line stands between a host and a Consul server, in the place of the agent
// that a host has. It counts what passes, and can be cut.
type line struct {
	socket, target string
	listener       net.Listener
	requests       [consultest.Kinds]atomic.Int64
	bytes          atomic.Int64

	mu    sync.Mutex // guards the fields below
	isCut bool
	ends  map[net.Conn]struct{} // of both sides
}

// newLine makes a line to the server at target. Cut it.
func newLine(tb testing.TB, socket, target string) *line {
	tb.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	l := &line{socket: socket, target: target, listener: listener, ends: make(map[net.Conn]struct{})}
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go l.pass(from)
		}
	}()
	return l
}

// pass serves one connection.
func (l *line) pass(from net.Conn) {
	to, err := net.Dial("tcp", l.target)
	if err != nil {
		from.Close()
		return
	}
	defer l.drop(from, to)
	if !l.keep(from, to) {
		return
	}
	go func() {
		defer l.drop(from, to)
		io.Copy(from, io.TeeReader(to, l))
	}()
	in := bufio.NewReader(from)
	for {
		request, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		l.requests[consultest.KindOf(request)].Add(1)
		if request.Write(to) != nil {
			return
		}
	}
}

// Write counts bytes of answers.
func (l *line) Write(some []byte) (int, error) {
	l.bytes.Add(int64(len(some)))
	return len(some), nil
}

func (l *line) keep(ends ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, end := range ends {
		l.ends[end] = struct{}{}
	}
	return !l.isCut
}

func (l *line) drop(ends ...net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, end := range ends {
		end.Close()
		delete(l.ends, end)
	}
}

// cut ends all connections, and there are no more.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = true
	l.listener.Close()
	for end := range l.ends {
		end.Close()
	}
}

func (l *line) counts() (c counts) {
	for k := range consultest.Kinds {
		c.requests[k] = l.requests[k].Load()
	}
	c.bytes = l.bytes.Load()
	return c
}
