package gluster

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/dvol/dvold/internal/fuseclient"
)

// kind is that of glusterfs(8).
func kind() fuseclient.Kind {
	return fuseclient.Kind{Program: "glusterfs", FSType: "fuse.glusterfs", EndTime: 5 * time.Second, HandlesCrashes: true}
}

// spec says what client is to be started.
type spec struct {
	servers        []string
	volume, subdir string
	tls            bool // between clients and glusterd
	options        []string
	log            string
}

var _ fuseclient.FileSystem = spec{}

// specOf says what a client of the Gluster volume is started with.
func (p *Pool) specOf(volume, subdir string) spec {
	options := []string{"--log-level=" + p.config.LogLevel}
	if p.config.Transport != "" {
		options = append(options, "--volfile-server-transport="+p.config.Transport)
	}
	if p.config.TLS {
		options = append(options, "--secure-mgmt=on")
	}
	return spec{
		servers: p.config.Servers, volume: volume, subdir: subdir, tls: p.config.TLS, options: options,
		log: filepath.Join(p.config.LogDir, fmt.Sprintf("dvol-%s-%s.log", p.name, volume)),
	}
}

// client is the same for who starts clients.
func (s spec) client() fuseclient.Spec {
	return fuseclient.Spec{Kind: kind(), FileSystem: s, Name: "Gluster volume " + s.volume, Silence: silence, Log: s.log}
}

// Options by which a client shows what it does.
const (
	volumeOption = "--volfile-id="
	subdirOption = "--subdir-mount="
)

// shows says by which arguments a client is one of the pool's.
func (s spec) shows() []string { return []string{volumeOption + s.volume, subdirOption + s.root()} }

// root is the path of what is shown of the Gluster volume, or "" for all of it.
func (s spec) root() string {
	if s.subdir == "" {
		return ""
	}
	return "/" + s.subdir
}

// Args returns the arguments of a client, to which a server that answers is the
// first.
func (s spec) Args(ctx context.Context) ([]string, error) {
	servers, err := s.answering(ctx)
	if err != nil {
		return nil, err
	}
	args := []string{"--no-daemon", "--process-name=fuse", volumeOption + s.volume, "--log-file=" + s.log}
	for _, server := range servers {
		args = append(args, "--volfile-server="+server)
	}
	if s.subdir != "" {
		args = append(args, subdirOption+s.root())
	}
	return append(args, s.options...), nil
}
