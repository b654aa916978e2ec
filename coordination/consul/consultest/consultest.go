// Package consultest runs real Consul servers on the loopback interface, for
// the time of a test.
package consultest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Options of a Cluster.
type Options struct {
	Servers int  // 1 if not given
	Slow    bool // Consul's own raft_multiplier, 5, for what keeps this machine busy; otherwise 1
	ACL     bool // deny what no token allows
	TLS     bool // https alone, with CAFile
}

// Cluster is a number of servers. Its methods end the test if they fail.
type Cluster struct {
	// Token may do all, if there are ACLs.
	Token string
	// CAFile signed the servers' certificates, if there is TLS.
	CAFile string

	t       testing.TB
	o       Options
	dir     string
	servers []*server
	client  *http.Client
}

// patience is how long a cluster may take to elect a leader and to settle, on a machine
// that has much to do.
const patience = 2 * time.Minute

// Start starts a cluster that is ended with the test, and waits until it can
// write. The test is skipped if Consul can't be built here; but if "consul" is
// among the comma-separated words of DVOLD_TEST_REQUIRE, it fails.
func Start(t testing.TB, o Options) *Cluster {
	t.Helper()
	o.Servers = max(o.Servers, 1)
	binary := Binary(t)
	c := &Cluster{t: t, o: o, dir: t.TempDir(), client: &http.Client{Timeout: 5 * time.Second}}
	if o.ACL {
		c.Token = "00000000-0000-4000-8000-000000000001" // of this cluster, which nobody else reaches
	}
	if o.TLS {
		c.makeCertificates()
	}
	for i := range o.Servers {
		c.servers = append(c.servers, c.newServer(binary, fmt.Sprint("server", i)))
	}
	for _, s := range c.servers {
		s.configure(true)
		s.start()
	}
	c.WaitReady()
	return c
}

// build builds Consul once for all tests of a process.
var build = sync.OnceValues(func() (path string, err error) {
	if path := os.Getenv("DVOLD_TEST_CONSUL"); path != "" {
		return path, nil
	}
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	out, err := exec.Command(filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), "hack", "consul", "build")).Output()
	if err != nil {
		return "", fmt.Errorf("build Consul: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
})

// Binary returns the path of the consul binary, built by hack/consul/build if it
// is not in its cache, which takes minutes. It skips or fails as Start does.
func Binary(t testing.TB) (binary string) {
	t.Helper()
	binary, err := build()
	if err == nil {
		return binary
	}
	if slices.Contains(strings.Split(os.Getenv("DVOLD_TEST_REQUIRE"), ","), "consul") {
		t.Fatalf("a Consul server is required, but can't run here: %v", err)
	}
	t.Skipf("a Consul server can't run here: %v", err)
	return ""
}

// In is the cluster as a subtest has it: that is what its methods end if they fail.
func (c *Cluster) In(t testing.TB) *Cluster {
	in := *c
	in.t = t
	return &in
}

// Address of server i, as a client is given it.
func (c *Cluster) Address(i int) string { return c.servers[i].address() }

// Addresses of all servers.
func (c *Cluster) Addresses() []string {
	var all []string
	for _, s := range c.servers {
		all = append(all, s.address())
	}
	return all
}

// PID is the number of server i's process.
func (c *Cluster) PID(i int) int { return c.servers[i].cmd.Process.Pid }

// Kill ends server i as a power cut would.
func (c *Cluster) Kill(i int) { c.servers[i].kill() }

// Restart starts server i, which was killed, with what it had on its disk.
func (c *Cluster) Restart(i int) { c.servers[i].start() }

// Pause stops server i in the middle of what it does, until Resume.
func (c *Cluster) Pause(i int) { c.servers[i].pause() }

// Resume lets server i go on.
func (c *Cluster) Resume(i int) { c.servers[i].resume() }

// Leader waits until the servers that run agree on a leader, and returns it.
func (c *Cluster) Leader() int {
	c.t.Helper()
	leader := -1
	c.eventually("agree on a leader", func() error {
		leader = -1
		for i, s := range c.servers {
			if !s.running {
				continue
			}
			var address string
			if status, err := c.ask(s.address(), http.MethodGet, "/v1/status/leader", nil, &address); err != nil || status != http.StatusOK {
				return fmt.Errorf("server %d: status %d, %w", i, status, err)
			}
			of := slices.IndexFunc(c.servers, func(s *server) bool { return strings.HasSuffix(address, fmt.Sprint(":", s.rpc)) })
			if of < 0 || !c.servers[of].running || leader >= 0 && of != leader {
				return fmt.Errorf("server %d says %q", i, address)
			}
			leader = of
		}
		return nil
	})
	return leader
}

// WaitReady waits until each server that runs can write, and has ACLs if it is to:
// a new leader begins with those of the old kind.
func (c *Cluster) WaitReady() {
	c.t.Helper()
	c.Leader()
	for _, s := range c.servers {
		if !s.running {
			continue
		}
		c.eventually("write", func() error { return c.accepts(s, http.MethodPut, "/v1/kv/consultest/ready") })
		if c.o.ACL {
			c.eventually("list its policies", func() error { return c.accepts(s, http.MethodGet, "/v1/acl/policies") })
		}
	}
}

// accepts returns an error unless a server's answer to a request without a body is
// 200.
func (c *Cluster) accepts(s *server, method, path string) error {
	status, err := c.ask(s.address(), method, path, nil, nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	return err
}

func (c *Cluster) eventually(what string, try func() error) {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("Consul can't %s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// ports returns n free ports of the loopback interface, below those that the
// kernel gives to whoever connects: such a one could be taken before a server
// listens on it, or while it is killed.
func ports(t testing.TB, n int) []int {
	t.Helper()
	var found []int
	for tries := 0; len(found) < n; tries++ {
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", 10_000+rand.IntN(22_000)))
		if err == nil {
			defer func() { _ = l.Close() }()
			found = append(found, l.Addr().(*net.TCPAddr).Port)
		} else if tries == 100 {
			t.Fatal(err)
		}
	}
	return found
}
