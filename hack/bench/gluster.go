package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/dvol/dvold/test/lab"
)

// glusterPool is the pool of the host that mounts are measured on. It is fenced by
// its management, so it takes exclusive volumes, too.
const glusterPool = "gv0"

// glusterConfiguration is that host's.
const glusterConfiguration = `coordination: {type: consul}
pools:
  ` + glusterPool + `: {type: gluster, servers: [%s], volume: ` + lab.GlusterVolume + `, management: [` + lab.GlusterManagement + `]}
`

// glusterFS takes the measures of volumes on GlusterFS: of clients and of what
// goes through them on one host, and of hosts that are killed.
func glusterFS(ctx context.Context, o options) (r results, err error) {
	if missing := lab.MissingGluster(); missing != "" {
		return r, fmt.Errorf("GlusterFS can't run here: %s", missing)
	}
	if r, err = glusterHost(ctx, o); err != nil {
		return r, err
	}
	on := glusterScene()
	s, err := on.kills(ctx, o)
	if err != nil {
		return r, err
	}
	r.Rows = append(r.Rows, killedRows(s)...)
	load, err := loadAverage()
	r.Facts = append(r.Facts, on.killFact(o), fmt.Sprintf("lease_ttl %v", exclusiveTTL), fmt.Sprintf("cut_time %v", cutTime), "load at the end "+load)
	return r, err
}

// glusterHost measures what one host is enough for.
func glusterHost(ctx context.Context, o options) (r results, err error) {
	dir, err := os.MkdirTemp(o.dir, "lab")
	if err != nil {
		return r, err
	}
	text := fmt.Sprintf(glusterConfiguration, glusterServers())
	c, err := lab.NewCluster(ctx, lab.ClusterOptions{
		Hosts: 1, Servers: 3, Dvold: o.dvold, Consul: o.consul, Gluster: true, Dir: dir,
		Configure: func(string) string { return text },
	})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(lastLogs(err, c), c.Close()) }()
	h := c.Host(1)
	if r.Facts, err = facts(ctx, h, o.dvold); err != nil {
		return r, err
	}
	version, err := h.Exec(ctx, "glusterfs", "--version")
	if err != nil {
		return r, err
	}
	version, _, _ = strings.Cut(version, "\n")
	r.Facts = append(r.Facts, version, "a replica of three, and 3 Consul servers, on the same machine", "raft_multiplier 1")
	for _, start := range []func() error{
		func() error { return runInMemory(ctx, h) },
		func() error { return c.StartConsul(ctx) },
		func() error { return c.StartGluster(ctx) },
		func() error { return h.StartDvold(ctx, "--log-level", "info") }, // as users do
	} {
		if err := start(); err != nil {
			return r, err
		}
	}
	return r, r.add(inside(ctx, h, stageGluster))
}

// glusterServers are the servers in a configuration.
func glusterServers() string {
	var all []string
	for _, a := range lab.GlusterAddresses() {
		all = append(all, a.String())
	}
	return strings.Join(all, ", ")
}

// glusterKind is a client of the Gluster volume.
func glusterKind() clientKind {
	return clientKind{program: "glusterfs", pool: glusterPool, arguments: func(dir string) []string {
		args := []string{"--no-daemon", "--process-name=fuse", "--volfile-id=" + lab.GlusterVolume, "--log-file=" + dir + ".log"}
		for _, server := range lab.GlusterAddresses() {
			args = append(args, "--volfile-server="+server.String())
		}
		return append(args, "--log-level=WARNING", dir)
	}}
}
