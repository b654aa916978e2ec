package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/dvol/dvold/test/lab"
)

// options say what is measured, and where.
type options struct {
	dvold  string // the binary; empty if it is yet to be built
	ceph   string // the same, with Ceph
	consul string // the same of Consul
	beat   string // the same of the lab's command beat
	dir    string // the directory that the hosts' own are made in
	only   string // the part to measure; empty means all
	kills  int    // how many hosts are killed with exclusive volumes, of each kind of storage
}

// wants tells whether a part is measured.
func (o options) wants(part string) bool { return o.only == "" || o.only == part }

// build makes the binaries that are needed and missing. Call clean in the end.
func (o options) build(ctx context.Context) (_ options, clean func(), err error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return o, nil, err
	}
	clean = func() { os.RemoveAll(dir) }
	defer func() {
		if err != nil {
			clean()
		}
	}()
	o.ceph = o.dvold
	if o.ceph == "" && o.wants("ceph") {
		o.ceph = filepath.Join(dir, "dvold-ceph")
		tags, err := exec.CommandContext(ctx, "hack/ceph-tags").Output()
		if err == nil && len(tags) == 0 {
			err = errors.New("its libraries are missing")
		}
		if err != nil {
			return o, nil, fmt.Errorf("build dvold with Ceph: %w", err)
		}
		if err := buildDvold(ctx, o.ceph, strings.TrimSpace(string(tags))); err != nil {
			return o, nil, err
		}
	}
	if o.dvold == "" {
		o.dvold = filepath.Join(dir, "dvold")
		if err := buildDvold(ctx, o.dvold, ""); err != nil {
			return o, nil, err
		}
	}
	if o.consul == "" && o.only != "host" && o.only != "nfs" {
		build := exec.CommandContext(ctx, "hack/consul/build")
		build.Stderr = os.Stderr // it may take minutes, and says so
		path, err := build.Output()
		if err != nil {
			return o, nil, fmt.Errorf("build Consul: %w", err)
		}
		o.consul = strings.TrimSpace(string(path))
	}
	if o.wants("exclusive") || o.wants("gluster") || o.wants("ceph") {
		if o.beat, err = lab.BuildBeat(dir); err != nil {
			return o, nil, err
		}
	}
	// Relative paths mean nothing inside a host.
	for _, path := range []*string{&o.dvold, &o.ceph, &o.consul, &o.dir} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return o, nil, err
		}
	}
	return o, clean, nil
}

// buildDvold makes dvold as hack/build does, static unless it is to have tags.
func buildDvold(ctx context.Context, binary, tags string) error {
	version, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		version = []byte("dev") // not a checkout
	}
	flags := "-s -w -X main.version=" + strings.TrimSpace(string(version))
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", tags, "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", binary, "github.com/dvol/dvold/cmd/dvold")
	cgo := "0"
	if tags != "" {
		cgo = "1"
	}
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build dvold: %w: %s", err, out)
	}
	return nil
}
