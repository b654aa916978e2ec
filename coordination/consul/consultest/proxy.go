package consultest

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// Proxy stands between a client and an agent, and can lose what either says.
type Proxy struct {
	server *httptest.Server
	target string

	mu     sync.Mutex // guards the fields below
	before func(path string)
	after  func(path string) bool

	passing sync.WaitGroup // requests
}

// StartProxy starts a proxy in front of the agent at address, "host:port". It
// ends with the test.
func StartProxy(t testing.TB, address string) *Proxy {
	t.Helper()
	p := &Proxy{target: "http://" + address}
	p.server = httptest.NewServer(p)
	t.Cleanup(func() {
		p.server.CloseClientConnections()
		p.server.Close()
	})
	return p
}

// Address of the proxy.
func (p *Proxy) Address() string { return p.server.Listener.Addr().String() }

// Leave ends the proxy as a crash would: it hangs up, and nobody listens.
func (p *Proxy) Leave() {
	_ = p.server.Listener.Close() // only net.ErrClosed, if it left already
	p.server.CloseClientConnections()
}

// Meddle makes before run before each request is passed on, even if the client
// leaves meanwhile, and after when the agent has answered: if it returns false
// the client gets no answer. Either may be nil.
func (p *Proxy) Meddle(before func(path string), after func(path string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before, p.after = before, after
}

// Wait waits until every request that came was answered, or will never be.
func (p *Proxy) Wait() { p.passing.Wait() }

// ServeHTTP passes a request on.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet { // those may wait for a change
		p.passing.Add(1)
		defer p.passing.Done()
	}
	p.mu.Lock()
	before, after := p.before, p.after
	p.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if before != nil {
		before(r.URL.Path)
	}
	// Like Consul's agents, it finishes what the client no longer waits for.
	out, err := http.NewRequest(r.Method, p.target+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	out.Header = r.Header.Clone()
	resp, err := http.DefaultClient.Do(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || after != nil && !after(r.URL.Path) {
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(answer) // the client may have left
}
