package consultest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// server is a Consul process, a server or a client agent.
type server struct {
	*Cluster
	binary  string
	name    string
	dir     string
	http    int // ports
	rpc     int
	serf    int
	cmd     *exec.Cmd // nil if there is no process
	running bool      // and not paused
}

func (c *Cluster) newServer(binary, name string) *server {
	c.t.Helper()
	p := ports(c.t, 3)
	s := &server{Cluster: c, binary: binary, name: name, dir: filepath.Join(c.dir, name), http: p[0], rpc: p[1], serf: p[2]}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		s.kill()
		if c.t.Failed() {
			if log, err := os.ReadFile(filepath.Join(s.dir, "log")); err == nil {
				c.t.Logf("%s:\n%s", name, log[max(0, len(log)-8000):])
			}
		}
	})
	return s
}

func (s *server) address() string {
	if s.o.TLS {
		return fmt.Sprint("https://127.0.0.1:", s.http)
	}
	return fmt.Sprint("127.0.0.1:", s.http)
}

func (s *server) configure(isServer bool) {
	s.t.Helper()
	var join []string
	for _, other := range s.servers {
		if other != s {
			join = append(join, fmt.Sprint("127.0.0.1:", other.serf))
		}
	}
	ports := map[string]int{"http": s.http, "https": -1, "server": s.rpc, "serf_lan": s.serf, "serf_wan": -1, "dns": -1, "grpc": -1}
	config := map[string]any{
		"server":               isServer,
		"node_name":            s.name,
		"data_dir":             filepath.Join(s.dir, "data"),
		"bind_addr":            "127.0.0.1",
		"ports":                ports,
		"retry_join":           join,
		"retry_interval":       "200ms",
		"session_ttl_min":      "1s",
		"performance":          map[string]any{"raft_multiplier": 1},
		"disable_update_check": true,
		"limits":               map[string]any{"http_max_conns_per_client": 10_000},
	}
	if s.o.Slow {
		delete(config, "performance")
	}
	if isServer {
		config["bootstrap_expect"] = len(s.servers)
	}
	if s.o.ACL {
		config["acl"] = map[string]any{"enabled": true, "default_policy": "deny", "tokens": map[string]any{"master": s.Token, "agent": s.Token}}
	}
	if s.o.TLS {
		ports["http"], ports["https"] = -1, s.http
		config["ca_file"], config["cert_file"], config["key_file"] = s.CAFile, filepath.Join(s.Cluster.dir, "cert.pem"), filepath.Join(s.Cluster.dir, "key.pem")
	}
	content, err := json.Marshal(config)
	if err == nil {
		err = os.WriteFile(filepath.Join(s.dir, "config.json"), content, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) start() {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	s.cmd = exec.Command(s.binary, "agent", "-config-file", filepath.Join(s.dir, "config.json"))
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.running = true
}

func (s *server) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
	s.cmd, s.running = nil, false
}

// terminate ends the process as an administrator would.
func (s *server) terminate() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	var exit *exec.ExitError
	if err := s.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		s.t.Errorf("end %s: %v", s.name, err)
	}
	s.cmd, s.running = nil, false
}

func (s *server) pause() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
	s.running = false
}

func (s *server) resume() {
	s.t.Helper()
	s.signal(syscall.SIGCONT)
	s.running = true
}

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("signal %v to %s: %v", sig, s.name, err)
	}
}
