package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"path"
	"sync"

	"github.com/dvol/dvold/test/lab"
)

// counter stands between a host's dvold and its Consul agent and counts what
// passes.
type counter struct {
	socket string // where dvold finds it
	server http.Server

	mu     sync.Mutex
	counts map[kind]int
}

// kind is what a request to Consul is for.
type kind string

const (
	renewal kind = "renewals of the session"
	waiting kind = "waits for a change of a key"
	reading kind = "reads"
	writing kind = "writes"
)

func kindOf(r *http.Request) kind {
	switch {
	case path.Dir(r.URL.Path) == "/v1/session/renew":
		return renewal
	case r.URL.Query().Has("index"):
		return waiting
	case r.Method == http.MethodGet:
		return reading
	}
	return writing
}

// newCounter starts a counter for h. Close it.
func newCounter(h *lab.Host) (*counter, error) {
	c := &counter{socket: h.Path("run/consul.sock"), counts: make(map[kind]int)}
	l, err := net.Listen("unix", c.socket)
	if err != nil {
		return nil, err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "127.0.0.1:8500" },
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				return h.Dial(ctx, network, address)
			},
			MaxIdleConnsPerHost: 16,
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	c.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.counts[kindOf(r)]++
		c.mu.Unlock()
		proxy.ServeHTTP(w, r)
	})
	go c.server.Serve(l) // until it is closed
	return c, nil
}

// take returns the counts since it was called last.
func (c *counter) take() map[kind]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := c.counts
	c.counts = make(map[kind]int)
	return counts
}

func (c *counter) close() error {
	if err := c.server.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
