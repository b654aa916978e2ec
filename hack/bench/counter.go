package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"

	"github.com/dvol/dvold/coordination/consul/consultest"
	"github.com/dvol/dvold/test/lab"
)

// counter stands between a host's dvold and its Consul agent and counts what
// passes.
type counter struct {
	socket string // where dvold finds it
	server http.Server

	mu     sync.Mutex
	counts map[consultest.Kind]int
}

// newCounter starts a counter for h. Close it.
func newCounter(h *lab.Host) (*counter, error) {
	c := &counter{socket: h.Path("run/consul.sock"), counts: make(map[consultest.Kind]int)}
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
		c.counts[consultest.KindOf(r)]++
		c.mu.Unlock()
		proxy.ServeHTTP(w, r)
	})
	go c.server.Serve(l) // until it is closed
	return c, nil
}

// take returns the counts since it was called last.
func (c *counter) take() map[consultest.Kind]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := c.counts
	c.counts = make(map[consultest.Kind]int)
	return counts
}

func (c *counter) close() error {
	if err := c.server.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
