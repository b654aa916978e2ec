package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// Of the hosts with exclusive volumes: their leases, and how long they take to
// cut themselves off.
const (
	exclusiveTTL = 10 * time.Second
	cutTime      = 5 * time.Second
)

// Pools of exclusive volumes: one that can be fenced, and one where a takeover
// has to wait for the owner's lease to end.
const (
	fenced = "fenced"
	leased = "leased"
)

const exclusiveConfiguration = `coordination: {type: consul, lease_ttl: %v}
guard: {cut_time: %v, reboot_command: ` + lab.RebootCommand + `}
default_pool: leased
pools:
  fenced:
    {type: local, path: /dfs/fenced, shared: true, exclusive: {fence_command: [` + lab.FenceCommand + `], fence_covers: pool}}
  leased:
    {type: local, path: /shared/leased, shared: true, exclusive: {takeover: auto, accept_lease: true}}
`

// scene is what clusters of two hosts have beside those and Consul: pools, and the
// storage of these.
type scene struct {
	name    string             // of the part
	lab     lab.ClusterOptions // what there is of storage
	config  string             // of dvold
	atOnce  int                // how many clusters there are at a time in which a host is killed
	start   func(context.Context, *lab.Cluster) error
	victims []victim // what a host has that is killed
	// text is what a host would read of a victim's beats.
	text func(b *exclusiveBench, v victim, h writer) (string, error)
	// native has h1 write to the storage without dvold, and returns how h2 takes that
	// over. There may be none.
	native func(b *exclusiveBench) (takeOver func() (time.Duration, error), err error)
}

// leasedAndFenced are what is compared where a pool can be fenced and another can't.
var leasedAndFenced = []victim{{fenced, "fenced-db", takenFenced}, {leased, "leased-db", takenLeased}}

// textIn reads beats from outside, out of the directory that a pool is.
func textIn(data func(c *lab.Cluster, pool string) string) func(*exclusiveBench, victim, writer) (string, error) {
	return func(b *exclusiveBench, v victim, _ writer) (string, error) {
		files, err := filepath.Glob(filepath.Join(data(b.lab, v.pool), "volumes", v.name+".*", "beats"))
		if err != nil || len(files) != 1 {
			return "", fmt.Errorf("%s has %d files of beats", v.name, len(files))
		}
		text, err := os.ReadFile(files[0])
		return string(text), err
	}
}

// plainScene has a directory that all hosts have, and a server that fences.
func plainScene() scene {
	return scene{
		name:    "exclusive",
		lab:     lab.ClusterOptions{Storage: true},
		config:  fmt.Sprintf(exclusiveConfiguration, exclusiveTTL, cutTime),
		atOnce:  4, // most of the time they wait
		start:   func(ctx context.Context, c *lab.Cluster) error { return c.StartStorage(ctx) },
		victims: leasedAndFenced,
		text: textIn(func(c *lab.Cluster, pool string) string {
			if pool == fenced {
				return c.Storage().Data(pool)
			}
			return c.Path("shared/" + pool)
		}),
	}
}

// writer is a host with exclusive volumes, called from outside.
type writer struct {
	member
	docker engine
}

// exclusiveBench measures one cluster of two hosts.
type exclusiveBench struct {
	ctx   context.Context
	scene scene
	lab   *lab.Cluster
	hosts []writer
	s     series
}

// exclusive takes the measures of exclusive volumes.
func exclusive(ctx context.Context, o options) (r results, err error) {
	if missing := lab.MissingStorage(); missing != "" {
		return r, fmt.Errorf("the hosts' storage can't run here: %s", missing)
	}
	load, err := loadAverage()
	if err != nil {
		return r, err
	}
	on := plainScene()
	r.Facts = []string{
		"2 hosts, each with a Consul agent and a guard, 3 Consul servers and a storage server, on the same machine",
		"raft_multiplier 1", fmt.Sprintf("lease_ttl %v", exclusiveTTL), fmt.Sprintf("cut_time %v", cutTime),
		on.killFact(o), "load at the start " + load,
	}
	s, err := on.measure(ctx, o, "mounts and hand-over", func(b *exclusiveBench) error {
		if err := b.mounts(); err != nil {
			return err
		}
		return b.handOver()
	})
	if err != nil {
		return r, err
	}
	killed, err := on.kills(ctx, o)
	if err != nil {
		return r, err
	}
	r.Rows = append(handOverRows(s), killedRows(killed)...)
	load, err = loadAverage()
	r.Facts = append(r.Facts, "load at the end "+load)
	return r, err
}

// measure takes measures in a new cluster.
func (on scene) measure(ctx context.Context, o options, what string, measure func(*exclusiveBench) error) (s series, err error) {
	fmt.Fprintf(os.Stderr, "measuring: %s: %s\n", on.name, what)
	began := time.Now()
	dir, err := os.MkdirTemp(o.dir, "lab")
	if err != nil {
		return nil, err
	}
	wanted := on.lab
	wanted.Hosts, wanted.Servers, wanted.Guard, wanted.Dir = 2, 3, true, dir
	wanted.Dvold, wanted.Consul, wanted.Beat = o.dvold, o.consul, o.beat
	wanted.Configure = func(string) string { return on.config }
	c, err := lab.NewCluster(ctx, wanted)
	if err != nil {
		return nil, err
	}
	b := &exclusiveBench{ctx: ctx, scene: on, lab: c, s: series{}}
	defer func() { err = errors.Join(lastLogs(err, c), c.Close()) }()
	err = b.start()
	if err == nil {
		err = measure(b)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	fmt.Fprintf(os.Stderr, "  %s took %v\n", what, time.Since(began).Round(time.Second/10))
	return b.s, nil
}

// start starts all daemons: on each host dvold before the engine, as systemd
// does.
func (b *exclusiveBench) start() error {
	for _, h := range b.lab.Hosts() {
		dial := func(ctx context.Context) (net.Conn, error) { return h.Dial(ctx, "tcp", "127.0.0.1:8500") }
		b.hosts = append(b.hosts, writer{
			member{h, plugin{newClient(h.Path(pluginSocket))}, agent{newClientOver(dial)}},
			engine{newClient(h.Path(engineSocket))},
		})
	}
	shared := []func() error{
		func() error { return b.lab.StartConsul(b.ctx) },
		func() error { return b.scene.start(b.ctx, b.lab) },
	}
	if err := all(len(shared), func(i int) error { return shared[i]() }); err != nil {
		return err
	}
	return all(len(b.hosts), func(i int) error { return b.startHost(b.hosts[i].Host) })
}

func (b *exclusiveBench) startHost(h *lab.Host) error {
	for _, start := range []func() error{
		func() error { return h.Guard.Start(b.ctx) },
		func() error { return h.StartDvold(b.ctx, "--log-level", "info") }, // as users do
		func() error { return h.StartDocker(b.ctx) },
		func() error { return h.Image(b.ctx) },
	} {
		if err := start(); err != nil {
			return err
		}
	}
	return nil
}
