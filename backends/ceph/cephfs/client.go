package cephfs

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/dvol/dvold/internal/fuseclient"
)

// kind is that of ceph-fuse(8). At its end it waits for its MDS to have written down
// what it was told, which that does every 5 s (mds_tick_interval).
func kind() fuseclient.Kind {
	return fuseclient.Kind{Program: "ceph-fuse", FSType: "fuse.ceph-fuse", EndTime: 20 * time.Second}
}

// spec says what client is to be started.
type spec struct {
	config Config
	socket string // by which it can be asked how it is; empty means none
	log    string
}

var _ fuseclient.FileSystem = spec{}

// spec is that of the pool's client with a key.
func (p *Pool) spec(key string) spec {
	return spec{config: p.config, log: filepath.Join(p.config.LogDir, fmt.Sprintf("dvol-%s-%s.log", p.name, key))}
}

// client is the same for who starts clients.
func (s spec) client() fuseclient.Spec {
	return fuseclient.Spec{Kind: kind(), FileSystem: s, Name: s.name(), Silence: silence, Log: s.log}
}

func (s spec) name() string {
	if s.config.FileSystem == "" {
		return "the CephFS of " + s.config.Cluster.Hosts()
	}
	return "CephFS " + s.config.FileSystem
}

// Args returns the arguments of a client. It asks nobody: a client tries one monitor
// after the other.
func (s spec) Args(context.Context) ([]string, error) {
	args := append(s.config.Cluster.Arguments(), "-f", "--log-file="+s.log, "--admin-socket="+s.socket)
	if s.config.FileSystem != "" {
		args = append(args, "--client_fs="+s.config.FileSystem)
	}
	if s.config.Subdir != "" {
		args = append(args, "--client_mountpoint=/"+s.config.Subdir)
	}
	return args, nil
}
