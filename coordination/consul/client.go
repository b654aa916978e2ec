package consul

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dvol/dvold/coordination"
)

// Of a request. An agent that does not answer in time is left for the next;
// it may be one that a firewall cuts off.
const (
	dialTime  = time.Second
	readTime  = 2 * time.Second  // for one attempt at a small read or a session's affairs
	listTime  = 5 * time.Second  // for one attempt at a list, perhaps of 100,000 records
	wholeTime = 10 * time.Second // for all attempts
	pause     = 100 * time.Millisecond
)

// client speaks Consul's HTTP API. It is not hashicorp/consul/api, which
// obeys environment variables, hides the status of a failed transaction and
// can't send a lock-delay of 0.
type client struct {
	agents  []*agent
	current atomic.Int32 // of agents: the one that worked last
	token   *tokenFile
}

type agent struct {
	address string
	base    url.URL
	http    *http.Client
}

// request is one call, which may be attempted several times.
type request struct {
	method string
	path   string // not escaped
	query  url.Values
	body   any           // JSON, if not nil
	limit  time.Duration // for each attempt
	accept []int         // statuses besides 200 that are an answer
}

// answer is what an agent said, in one of the statuses accepted.
type answer struct {
	status  int
	body    []byte
	index   uint64        // X-Consul-Index
	contact time.Duration // X-Consul-LastContact: how long the server has not heard of the leader
}

func newClient(cfg Config) (*client, error) {
	tlsConfig, err := cfg.TLS.client()
	if err != nil {
		return nil, err
	}
	c := &client{token: &tokenFile{path: cfg.TokenFile}}
	for _, address := range cfg.Addresses {
		u, err := parseAddress(address)
		if err != nil {
			return nil, err
		}
		dialer := &net.Dialer{Timeout: dialTime, KeepAlive: 15 * time.Second}
		dial := dialer.DialContext
		if u.Scheme == "unix" {
			socket := u.Path
			dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", socket)
			}
			u = &url.URL{Scheme: "http", Host: "localhost"}
		}
		c.agents = append(c.agents, &agent{address: address, base: *u, http: &http.Client{
			Transport: &http.Transport{
				DialContext:         dial,
				TLSClientConfig:     tlsConfig,
				TLSHandshakeTimeout: dialTime,
				MaxIdleConnsPerHost: 16,
				MaxConnsPerHost:     128, // Consul's http_max_conns_per_client is 200
				IdleConnTimeout:     time.Minute,
			},
			// A token goes to the agents that were configured, and no others.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}})
	}
	return c, nil
}

func (c *client) close() {
	for _, a := range c.agents {
		a.http.CloseIdleConnections()
	}
}

// try attempts r once, at the agent that worked last, and turns to the next
// one if that fails. The error is a *failure.
func (c *client) try(ctx context.Context, r request) (answer, *failure) {
	if err := ctx.Err(); err != nil {
		return answer{}, &failure{err: err, unsent: true}
	}
	token, err := c.token.read()
	if err != nil {
		return answer{}, &failure{err: err, unsent: true}
	}
	at := c.current.Load()
	a := c.agents[at]
	got, f := a.ask(ctx, r, token)
	if f == nil {
		return got, nil
	}
	f.agent, f.tokenFile = a.address, c.token.path
	if ctx.Err() == nil && (f.err != nil || f.status >= 500) {
		c.current.CompareAndSwap(at, (at+1)%int32(len(c.agents)))
	}
	return answer{}, f
}

// ask makes one HTTP request, which takes at most r.limit.
func (a *agent) ask(ctx context.Context, r request, token string) (answer, *failure) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.limit, fmt.Errorf("no answer within %v", r.limit))
	defer cancel()
	var wrote atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }})
	fail := func(err error) *failure {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return &failure{err: err, unsent: !wrote.Load()}
	}
	var body io.Reader
	if r.body != nil {
		var content bytes.Buffer
		encoder := json.NewEncoder(&content)
		encoder.SetEscapeHTML(false) // so that keys stay as short as they are
		if err := encoder.Encode(r.body); err != nil {
			return answer{}, fail(err)
		}
		body = &content
	}
	u := a.base
	u.Path, u.RawQuery = r.path, r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return answer{}, fail(err)
	}
	if token != "" {
		req.Header.Set("X-Consul-Token", token)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		var inURL *url.Error
		if errors.As(err, &inURL) {
			err = inURL.Err
		}
		return answer{}, fail(err)
	}
	defer func() { _ = resp.Body.Close() }()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{}, fail(err)
	}
	got := answer{status: resp.StatusCode, body: content}
	got.index, _ = strconv.ParseUint(resp.Header.Get("X-Consul-Index"), 10, 64) // absent: 0
	ms, _ := strconv.ParseUint(resp.Header.Get("X-Consul-LastContact"), 10, 32)
	got.contact = time.Duration(ms) * time.Millisecond
	if got.status == http.StatusOK {
		return got, nil
	}
	for _, status := range r.accept {
		if got.status == status {
			return got, nil
		}
	}
	return answer{}, &failure{status: got.status, text: strings.TrimSpace(string(content))}
}

// repeat attempts r, which may be done twice, until there is an answer, or ctx
// ends, or about wholeTime is over. The error is ErrUnavailable, or ctx's.
func (c *client) repeat(ctx context.Context, r request) (answer, error) {
	whole, cancel := patient(ctx)
	defer cancel()
	for {
		got, f := c.try(whole, r)
		if f == nil {
			return got, nil
		}
		if ctx.Err() == nil && !f.final() && sleep(whole, pause) {
			continue
		}
		if ctx.Err() != nil {
			return answer{}, ended(ctx)
		}
		return answer{}, fmt.Errorf("%w: %w", coordination.ErrUnavailable, f)
	}
}

// patient returns a context that ends with ctx, or after wholeTime.
func patient(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, wholeTime, fmt.Errorf("%w: no answer within %v", coordination.ErrUnavailable, wholeTime))
}

// get is repeat for a read whose answer is JSON, into what.
func (c *client) get(ctx context.Context, r request, what any) (answer, error) {
	got, err := c.repeat(ctx, r)
	if err != nil || got.status != http.StatusOK {
		return got, err
	}
	if err := json.Unmarshal(got.body, what); err != nil {
		return got, fmt.Errorf("%w: read what Consul answers: %w", coordination.ErrUnavailable, err)
	}
	return got, nil
}

// ended returns why ctx ended: that of the caller, the Store, or our patience.
func ended(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, coordination.ErrUnavailable) {
		return cause
	}
	return ctx.Err()
}

// sleep waits, and returns false as soon as ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
