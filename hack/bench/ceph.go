package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/dvol/dvold/test/lab"
)

// Pools of hosts on Ceph.
const (
	imagePool = "images"
	filePool  = "files"
)

// cephPools are those in a configuration.
func cephPools() string {
	var monitors []string
	for _, a := range lab.CephAddresses() {
		monitors = append(monitors, a.String())
	}
	at := fmt.Sprintf("cluster: {monitors: [%s], user: %s}, fencer: %s", strings.Join(monitors, ", "), lab.CephUser, lab.CephFencer)
	return fmt.Sprintf("default_pool: %[1]s\npools:\n  %[1]s: {type: rbd, pool: %[2]s, size: 512M, %[3]s}\n  %[4]s: {type: cephfs, filesystem: %[5]s, %[3]s}\n",
		imagePool, lab.CephPool, at, filePool, lab.CephFileSystem)
}

// cephKind is a client of the CephFS.
func cephKind() clientKind {
	return clientKind{program: "ceph-fuse", pool: filePool, arguments: func(dir string) []string {
		return []string{"-f", "--id=" + lab.CephUser, "--client_fs=" + lab.CephFileSystem, "--log-file=" + dir + ".log", "--admin-socket=",
			"--client_die_on_failed_dentry_invalidate=false", dir}
	}}
}

// ceph takes the measures of volumes on Ceph: of clients and of what goes through
// them on one host, and of hosts that are killed.
func ceph(ctx context.Context, o options) (r results, err error) {
	if missing := lab.MissingCeph(); missing != "" {
		return r, fmt.Errorf("there is no Ceph to be run here: %s", missing)
	}
	o.dvold = o.ceph
	if r, err = cephHost(ctx, o); err != nil {
		return r, err
	}
	on := cephScene()
	s, err := on.kills(ctx, o)
	if err != nil {
		return r, err
	}
	r.Rows = append(r.Rows, cephKilledRows(s)...)
	load, err := loadAverage()
	r.Facts = append(r.Facts, on.killFact(o), fmt.Sprintf("lease_ttl %v", exclusiveTTL), fmt.Sprintf("cut_time %v", cutTime), "load at the end "+load)
	return r, err
}

// cephHost measures what one host is enough for.
func cephHost(ctx context.Context, o options) (r results, err error) {
	dir, err := os.MkdirTemp(o.dir, "lab")
	if err != nil {
		return r, err
	}
	c, err := lab.NewCluster(ctx, lab.ClusterOptions{
		Hosts: 1, Servers: 3, Dvold: o.dvold, Consul: o.consul, Ceph: true, Dir: dir,
		Configure: func(string) string { return "coordination: {type: consul}\n" + cephPools() },
	})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(lastLogs(err, c), c.Close()) }()
	h := c.Host(1)
	if r.Facts, err = facts(ctx, h, o.dvold); err != nil {
		return r, err
	}
	version, err := h.Exec(ctx, "ceph", "--version")
	if err != nil {
		return r, err
	}
	r.Facts = append(r.Facts, version, "three copies on three nodes, and 3 Consul servers, on the same machine", "raft_multiplier 1")
	for _, start := range []func() error{
		func() error { return c.StartConsul(ctx) },
		func() error { return c.StartCeph(ctx) },
		func() error { return h.StartDvold(ctx, "--log-level", "info") }, // as users do
	} {
		if err := start(); err != nil {
			return r, err
		}
	}
	if err := r.add(inside(ctx, h, stageFiles)); err != nil {
		return r, err
	}
	return r, r.add(inside(ctx, h, stageImages))
}
