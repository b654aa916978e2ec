package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// Roles of the hosts. h1 and h2 do what is measured; h3 has little to do, and
// reaches Consul through a counter; h4 is in no cluster, for comparison.
const (
	sharing = 3
	idler   = 3
	alone   = 4
)

// member is a host of the cluster, called from outside.
type member struct {
	*lab.Host
	dvol   plugin
	consul agent
}

// clusterBench measures hosts with Consul.
type clusterBench struct {
	ctx     context.Context
	lab     *lab.Cluster
	hosts   []member
	counter *counter // of what h3 asks Consul
	results
}

// cluster takes the measures of several hosts: three that share volumes, each
// with a Consul agent, and three Consul servers, all on this machine.
func cluster(ctx context.Context, o options) (r results, err error) {
	dir, err := os.MkdirTemp(o.dir, "lab")
	if err != nil {
		return r, err
	}
	c, err := lab.NewCluster(ctx, lab.ClusterOptions{Hosts: alone, Servers: 3, Dvold: o.dvold, Consul: o.consul, Dir: dir})
	if err != nil {
		return r, err
	}
	b := &clusterBench{ctx: ctx, lab: c}
	defer func() { err = errors.Join(lastLogs(err, c), c.Close()) }()
	if err := b.start(); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.counter.close()) }()
	load, err := loadAverage()
	if err != nil {
		return r, err
	}
	version, err := b.host(1).Exec(ctx, o.consul, "version")
	if err != nil {
		return r, err
	}
	version, _, _ = strings.Cut(version, "\n")
	b.Facts = []string{"3 hosts, each with a Consul agent, and 3 Consul servers, on the same machine", version, "raft_multiplier 1", "lease_ttl 20s", "load at the start " + load}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"single calls", b.gets},
		{"creates at once", b.rates},
		{"calls while h3 is quiet", b.besideQuiet},
		{"loss of the leader", b.losses},
	} {
		fmt.Fprintln(os.Stderr, "measuring: cluster:", step.what)
		began := time.Now()
		if err := step.do(); err != nil {
			return b.results, fmt.Errorf("%s: %w", step.what, err)
		}
		fmt.Fprintln(os.Stderr, "  took", time.Since(began).Round(time.Second/10))
	}
	if load, err = loadAverage(); err != nil {
		return b.results, err
	}
	b.Facts = append(b.Facts, "load at the end "+load)
	return b.results, nil
}

// start starts Consul and dvold everywhere.
func (b *clusterBench) start() error {
	if err := os.Mkdir(b.lab.Path("shared/pool"), 0o755); err != nil {
		return err
	}
	for _, h := range b.lab.Hosts() {
		dial := func(ctx context.Context) (net.Conn, error) { return h.Dial(ctx, "tcp", "127.0.0.1:8500") }
		b.hosts = append(b.hosts, member{h, plugin{newClient(h.Path(pluginSocket))}, agent{newClientOver(dial)}})
		if err := runInMemory(b.ctx, h); err != nil {
			return err
		}
	}
	var err error
	if b.counter, err = newCounter(b.host(idler).Host); err != nil {
		return err
	}
	if err := b.lab.StartConsul(b.ctx); err != nil {
		return err
	}
	for n := range alone {
		if err := b.startDvold(n + 1); err != nil {
			return err
		}
	}
	return nil
}

// startDvold configures dvold on host n and starts it.
func (b *clusterBench) startDvold(n int) error {
	h := b.host(n)
	text := "coordination: {type: consul}\npools:\n  shared: {type: local, path: /shared/pool, shared: true}\n"
	switch n {
	case idler:
		text = strings.Replace(text, "consul", fmt.Sprintf("consul, addresses: %q", "unix://"+b.counter.socket), 1)
	case alone:
		text = fmt.Sprintf("pools:\n  own: {type: local, path: %q}\n", h.Path("own"))
	}
	if err := h.Configure(text); err != nil {
		return err
	}
	return h.StartDvold(b.ctx, "--log-level", "info") // as users do
}

// host is host hN, counted from 1.
func (b *clusterBench) host(n int) member { return b.hosts[n-1] }

// lastLogs adds to an error the end of what the dvolds and Consuls of a cluster
// have logged.
func lastLogs(err error, c *lab.Cluster) error {
	if err == nil {
		return nil
	}
	for _, m := range c.Machines() {
		for _, log := range []string{"dvold.log", "consul.log"} {
			if text, readErr := os.ReadFile(m.Path(log)); readErr == nil {
				err = fmt.Errorf("%w\n%s, %s at last:\n%s", err, m.Name(), log, text[max(0, len(text)-2000):])
			}
		}
	}
	return err
}

// all calls do with each number below n, at once.
func all(n int, do func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = do(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
