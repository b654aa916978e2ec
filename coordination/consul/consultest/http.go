package consultest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Do makes a request to server 0 with Token: body and into, if not nil, are
// JSON, except that []byte and *[]byte are what is sent and received. It
// returns the status, and fails the test only if there is none.
func (c *Cluster) Do(method, path string, body, into any) (status int) {
	c.t.Helper()
	return c.doAt(c.Address(0), method, path, body, into)
}

// doAt is Do at another agent.
func (c *Cluster) doAt(address, method, path string, body, into any) (status int) {
	c.t.Helper()
	status, err := c.ask(address, method, path, body, into)
	if err != nil {
		c.t.Fatalf("%s %s: status %d: %v", method, path, status, err)
	}
	return status
}

// Must is Do, and fails the test unless the status is 200.
func (c *Cluster) Must(method, path string, body, into any) {
	c.t.Helper()
	if status := c.Do(method, path, body, into); status != http.StatusOK {
		c.t.Fatalf("%s %s: status %d", method, path, status)
	}
}

func (c *Cluster) ask(address, method, path string, body, into any) (status int, err error) {
	content, raw := body.([]byte)
	if !raw && body != nil {
		if content, err = json.Marshal(body); err != nil {
			return 0, err
		}
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, address+path, bytes.NewReader(content))
	if err != nil {
		return 0, err
	}
	if c.Token != "" {
		req.Header.Set("X-Consul-Token", c.Token)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return resp.StatusCode, err
	}
	if to, ok := into.(*[]byte); ok {
		*to = answer
		return resp.StatusCode, nil
	}
	if into != nil && (resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusConflict) {
		if err := json.Unmarshal(answer, into); err != nil {
			return resp.StatusCode, fmt.Errorf("%.200q: %w", answer, err)
		}
	}
	return resp.StatusCode, nil
}

// Snapshot returns all that the cluster knows.
func (c *Cluster) Snapshot() []byte {
	c.t.Helper()
	var archive []byte
	c.Must(http.MethodGet, "/v1/snapshot", nil, &archive)
	return archive
}

// Restore makes the cluster know what it knew when the archive was made.
func (c *Cluster) Restore(archive []byte) {
	c.t.Helper()
	c.Must(http.MethodPut, "/v1/snapshot", archive, nil)
}

// NewToken returns a token that allows what rules, in Consul's language, say.
func (c *Cluster) NewToken(name, rules string) string {
	c.t.Helper()
	c.Must(http.MethodPut, "/v1/acl/policy", map[string]string{"Name": name, "Rules": rules}, nil)
	var token struct{ SecretID string }
	c.Must(http.MethodPut, "/v1/acl/token", map[string]any{"Policies": []map[string]string{{"Name": name}}}, &token)
	return token.SecretID
}

// Agent is a client agent of a Cluster.
type Agent struct{ *server }

// StartAgent starts a client agent on a node of that name, and waits until it
// knows a server, and the servers its node: before that no session can be made there.
func (c *Cluster) StartAgent(name string) *Agent {
	c.t.Helper()
	a := &Agent{c.newServer(c.servers[0].binary, name)}
	a.configure(false)
	a.start()
	c.eventually("find a client agent's node", func() error {
		var node *struct{} // null if there is none
		status, err := c.ask(a.address(), http.MethodGet, "/v1/catalog/node/"+name, nil, &node)
		if err == nil && (status != http.StatusOK || node == nil) {
			err = fmt.Errorf("status %d, known: %t", status, node != nil)
		}
		return err
	})
	return a
}

// Address of the agent.
func (a *Agent) Address() string { return a.address() }

// Kill ends the agent as a power cut would.
func (a *Agent) Kill() { a.kill() }

// Restart starts the agent, which was killed, with what it had on its disk.
func (a *Agent) Restart() { a.t.Helper(); a.start() }

// Terminate ends the agent with SIGTERM.
func (a *Agent) Terminate() { a.t.Helper(); a.terminate() }
