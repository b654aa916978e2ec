package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/test/lab"
)

// labFile says that a directory is a lab, and whose.
const labFile = "lab.json"

func superviseCommand(dir *string) *cobra.Command {
	var o lab.ClusterOptions
	c := &cobra.Command{
		Use: "supervise", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Dir = *dir
			return supervise(c.Context(), o)
		},
	}
	clusterFlags(c, &o)
	return c
}

// supervise keeps a cluster until somebody wants it down.
func supervise(ctx context.Context, o lab.ClusterOptions) (err error) {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	if err := claim(o.Dir); err != nil {
		return err
	}
	o.Configure = func(string) string { return configuration(o) }
	c, err := lab.NewCluster(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := os.Mkdir(c.Path("shared/pool"), 0o755); err != nil {
		return err
	}
	if err := c.Start(ctx); err != nil {
		return err
	}
	l, err := net.Listen("unix", socket(o.Dir))
	if err != nil {
		return err
	}
	s := &supervisor{cluster: c, done: make(chan struct{})}
	server := &http.Server{Handler: s.handler()}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err = <-served:
		return err
	case <-ctx.Done():
	case <-s.done:
	}
	// Whoever asked for it watches this process end.
	shut, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return server.Shutdown(shut)
}

// claim makes the directory a lab of this process.
func claim(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	id, err := lab.ProcessID(os.Getpid())
	if err != nil {
		return err
	}
	text, err := json.Marshal(id)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, labFile), text, 0o644)
}

// configuration is dvold's.
func configuration(o lab.ClusterOptions) string {
	if o.Servers == 0 {
		return guarding // and volumes of each host's own
	}
	c := guarding + `coordination: {type: consul, addresses: "127.0.0.1:8500", prefix: dvol, lease_ttl: 10s}
default_pool: shared
pools:
  shared: {type: local, path: /shared/pool, shared: true}
`
	if o.Storage {
		c += "  dfs: {type: local, path: /dfs, shared: true, require_mount: true, exclusive: {fence_command: [" + lab.FenceCommand + "], fence_covers: pool}}\n"
	}
	if o.Gluster {
		c += glusterPool(o.Guard)
	}
	if o.Ceph {
		c += cephPools()
	}
	return c
}

// guarding has a host end as the lab can have it.
const guarding = "guard: {reboot_command: " + lab.RebootCommand + "}\n"

// supervisor answers orders, one after the other.
type supervisor struct {
	mu      sync.Mutex // held while the cluster is used
	cluster *lab.Cluster
	once    sync.Once
	done    chan struct{} // closed when the lab is to go down
}

func (s *supervisor) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, do func(*http.Request) (string, error)) {
		mux.HandleFunc("POST "+pattern, func(w http.ResponseWriter, r *http.Request) {
			s.mu.Lock()
			defer s.mu.Unlock()
			text, err := do(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
				return
			}
			fmt.Fprintln(w, text)
		})
	}
	handle("/status", func(r *http.Request) (string, error) {
		text, err := json.Marshal(s.status(r.Context()))
		return string(text), err
	})
	handle("/down", func(*http.Request) (string, error) {
		s.once.Do(func() { close(s.done) })
		return "going down", nil
	})
	handle("/{act}/{machine}", s.act)
	handle("/{act}/{machine}/{what}", s.act)
	return mux
}

// act does something to a machine and says what it is like then.
func (s *supervisor) act(r *http.Request) (string, error) {
	ctx := context.WithoutCancel(r.Context()) // half of it would be worse
	name := r.PathValue("machine")
	m, start := s.find(ctx, name)
	if m == nil {
		return "", fmt.Errorf("there is no machine %s", name)
	}
	act, what := r.PathValue("act"), r.PathValue("what")
	if (act == "freeze" || act == "thaw") && what != "" && what != "all" {
		return actOnDaemon(m, act, what)
	}
	if act == "gluster" {
		return s.actOnGluster(ctx, name, what)
	}
	if act == "ceph" {
		return s.actOnCeph(ctx, name, what)
	}
	switch act {
	case "cut":
		return fmt.Sprintf("%s is cut off from %s", name, what), m.Cut(ctx, lab.Peer(what))
	case "heal":
		if err := m.Heal(ctx); err != nil {
			return "", err
		}
		text := name + " reaches everybody again"
		if m.Up() && !m.Frozen() {
			if err := m.Rejoin(ctx); err != nil {
				text += "; its Consul will find the servers later: " + err.Error()
			}
		}
		return text, nil
	case "remount":
		for _, h := range s.cluster.Hosts() {
			if h.Machine == m {
				return name + " has the storage mounted anew", h.RemountStorage(ctx)
			}
		}
		return "", fmt.Errorf("%s is no host", name)
	case "kill":
		return name + " is down", m.Kill()
	case "freeze":
		return name + " is frozen", m.Freeze()
	case "thaw":
		return name + " goes on", m.Thaw()
	case "reboot":
		if err := m.Kill(); err != nil {
			return "", err
		}
		if err := m.Boot(ctx); err != nil {
			return "", err
		}
		return name + " is up", start()
	default:
		return "", fmt.Errorf("%q is nothing that can be done to a machine", act)
	}
}

// actOnDaemon freezes or thaws a daemon of a machine.
func actOnDaemon(m *lab.Machine, act, name string) (string, error) {
	for _, d := range m.Daemons() {
		if d.Name() != name {
			continue
		}
		if act == "freeze" {
			return fmt.Sprintf("%s on %s is frozen", name, m.Name()), d.Freeze()
		}
		return fmt.Sprintf("%s on %s goes on", name, m.Name()), d.Thaw()
	}
	return "", fmt.Errorf("there is no %s on %s", name, m.Name())
}

// find returns a machine, nil if there is none, and what starts its daemons.
func (s *supervisor) find(ctx context.Context, name string) (*lab.Machine, func() error) {
	for _, h := range s.cluster.Hosts() {
		if h.Name() == name {
			return h.Machine, func() error { return h.StartAll(ctx) }
		}
	}
	for _, server := range s.cluster.Servers() {
		if server.Name() == name {
			return server.Machine, func() error { return server.Consul.Start(ctx) }
		}
	}
	if storage := s.cluster.Storage(); storage != nil && storage.Name() == name {
		return storage.Machine, func() error { return s.cluster.StartStorage(ctx) }
	}
	if n := s.glusterNode(name); n != nil {
		return n.Machine, func() error { return s.cluster.Gluster().Start(ctx, n) }
	}
	if n := s.cephNode(name); n != nil {
		return n.Machine, func() error { return s.cluster.Ceph().Start(ctx, n) }
	}
	return nil, nil
}
