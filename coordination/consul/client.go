package consul

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"

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

// client asks agents, one until it fails, then the next, through Consul's own
// library. What that hides is noted below it, by transport.
type client struct {
	agents  []*agent
	current atomic.Int32 // of agents: the one that worked last
	token   *tokenFile
}

type agent struct {
	address string
	api     *api.Client
	http    *http.Client
}

// request is one call of the library, which may be attempted several times.
type request func(*api.Client, *api.QueryOptions) error

// writing are the options of a write like those of a read.
func writing(q *api.QueryOptions) *api.WriteOptions {
	return (&api.WriteOptions{Token: q.Token}).WithContext(q.Context())
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
		a := &agent{address: address, http: &http.Client{
			Transport: transport{&http.Transport{
				DialContext:         dial,
				TLSClientConfig:     tlsConfig,
				TLSHandshakeTimeout: dialTime,
				MaxIdleConnsPerHost: 16,
				MaxConnsPerHost:     128, // Consul's http_max_conns_per_client is 200
				IdleConnTimeout:     time.Minute,
			}},
			// A token goes to the agents that were configured, and no others.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}}
		// What is not said here the library takes from the environment, hence
		// an empty file as token; transport takes a namespace away.
		if a.api, err = api.NewClient(&api.Config{Scheme: u.Scheme, Address: u.Host, HttpClient: a.http, TokenFile: os.DevNull}); err != nil {
			return nil, err
		}
		c.agents = append(c.agents, a)
	}
	return c, nil
}

func (c *client) close() {
	for _, a := range c.agents {
		a.http.CloseIdleConnections()
	}
}

// try attempts r once, for at most limit, at the agent that worked last, and
// turns to the next one if that fails.
func (c *client) try(ctx context.Context, limit time.Duration, r request) *failure {
	if err := ctx.Err(); err != nil {
		return &failure{err: err, unsent: true}
	}
	token, err := c.token.read()
	if err != nil {
		return &failure{err: err, unsent: true}
	}
	at := c.current.Load()
	a := c.agents[at]
	f := a.try(ctx, limit, token, r)
	if f == nil {
		return nil
	}
	f.agent, f.tokenFile = a.address, c.token.path
	if ctx.Err() == nil && (f.err != nil || f.status >= 500) {
		c.current.CompareAndSwap(at, (at+1)%int32(len(c.agents)))
	}
	return f
}

func (a *agent) try(ctx context.Context, limit time.Duration, token string, r request) *failure {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	var seen exchange
	err := r(a.api, (&api.QueryOptions{Token: token}).WithContext(context.WithValue(ctx, exchangeKey{}, &seen)))
	if err == nil {
		return nil
	}
	if seen.status != 0 {
		return &failure{status: seen.status, text: seen.text}
	}
	var inURL *url.Error
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	} else if errors.As(err, &inURL) {
		err = inURL.Err
	} else {
		err = fmt.Errorf("read what Consul answers: %w", err)
	}
	return &failure{err: err, unsent: !seen.wrote.Load()}
}

// repeat attempts r, which may be done twice, until there is an answer, or ctx
// ends, or about wholeTime is over. The error is ErrUnavailable, or ctx's.
func (c *client) repeat(ctx context.Context, limit time.Duration, r request) error {
	whole, cancel := patient(ctx)
	defer cancel()
	for {
		f := c.try(whole, limit, r)
		if f == nil {
			return nil
		}
		if ctx.Err() == nil && !f.final() && sleep(whole, pause) {
			continue
		}
		if ctx.Err() != nil {
			return ended(ctx)
		}
		return fmt.Errorf("%w: %w", coordination.ErrUnavailable, f)
	}
}

// patient returns a context that ends with ctx, or after wholeTime.
func patient(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, wholeTime, fmt.Errorf("%w: no answer within %v", coordination.ErrUnavailable, wholeTime))
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
