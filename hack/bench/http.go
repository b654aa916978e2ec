package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
)

// client asks a server. It keeps its connections, as the engine does with that
// to a plugin: moby's pkg/plugins has one http.Transport for each, with its
// defaults.
type client struct{ http http.Client }

// newClient asks a server on a unix socket.
func newClient(socket string) *client {
	var d net.Dialer
	return newClientOver(func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) })
}

// newClientOver asks a server that dial connects to.
func newClientOver(dial func(context.Context) (net.Conn, error)) *client {
	return &client{http.Client{Transport: &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableCompression:  true,
		MaxIdleConnsPerHost: 64, // as many as there are callers at once
	}}}
}

// do sends a request, which has a body unless it is nil, and reads the whole
// answer. A status that isn't OK is an error.
func (c *client) do(ctx context.Context, method, path string, body any) error {
	status, text, err := c.ask(ctx, method, path, body)
	if err == nil && status/100 != 2 {
		err = fmt.Errorf("%s answers %d: %.200s", path, status, text)
	}
	return err
}

// ask is do that leaves it to the caller to judge the answer.
func (c *client) ask(ctx context.Context, method, path string, body any) (status int, text []byte, err error) {
	var sent bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&sent).Encode(body); err != nil {
			return 0, nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://bench"+path, &sent)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	return resp.StatusCode, text, err
}
