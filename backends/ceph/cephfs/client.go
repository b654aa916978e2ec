package cephfs

import (
	"context"
	"fmt"
	"os/exec"
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
	alone  bool // it is one of a volume that is exclusive
}

var _ fuseclient.FileSystem = spec{}

// spec is that of the pool's client with a key.
func (p *Pool) spec(key string) spec {
	return spec{config: p.config, log: filepath.Join(p.config.LogDir, fmt.Sprintf("dvol-%s-%s.log", p.name, key))}
}

// Options by which a client shows what it does.
const (
	fsOption   = "--client_fs="
	rootOption = "--client_mountpoint="
)

// shows says by which arguments a client is one of the pool's.
func (s spec) shows() []string {
	root := ""
	if s.config.Subdir != "" {
		root = "/" + s.config.Subdir
	}
	return []string{fsOption + s.config.FileSystem, rootOption + root}
}

// client is the same for who starts clients.
func (s spec) client() fuseclient.Spec {
	return fuseclient.Spec{Kind: kind(), FileSystem: s, Name: s.name(), Ask: question(), Silence: silence, Log: s.log}
}

// question is one for the MDS: a client answers others out of its cache, and statfs(2)
// by the monitors alone, as it has to where there is no getfattr(1).
func question() []string {
	if _, err := exec.LookPath("getfattr"); err != nil {
		return nil
	}
	return []string{"getfattr", "--absolute-names", "--only-values", "--name=" + usedAttr}
}

func (s spec) name() string {
	if s.config.FileSystem == "" {
		return "the CephFS of " + s.config.Cluster.Hosts()
	}
	return "CephFS " + s.config.FileSystem
}

// stayOption has a client live on that can't remount its mountpoint, as it does to
// have the kernel let go of what an MDS wants back. That of an exclusive volume has
// none, and would end itself after some attempts.
const stayOption = "--client_die_on_failed_dentry_invalidate=false"

// throughOption has a client write to the OSDs before it answers. It would keep what is written
// for a while otherwise, and where it loses that as it is cut off, its next fsync(2) says that all
// is well (Client::remove_session_caps, Client::_fsync in Ceph 16): the next owner has not got
// what the last one was told is on the disk. One in 25 fences of a busy writer had that.
const throughOption = "--client_oc_max_dirty=0"

// Args returns the arguments of a client. It asks nobody: a client tries one monitor
// after the other.
func (s spec) Args(context.Context) ([]string, error) {
	args := append(s.config.Cluster.Arguments(), "-f", "--log-file="+s.log, "--admin-socket="+s.socket, stayOption)
	if s.alone {
		args = append(args, throughOption)
	}
	if s.config.FileSystem != "" {
		args = append(args, fsOption+s.config.FileSystem)
	}
	if s.config.Subdir != "" {
		args = append(args, rootOption+"/"+s.config.Subdir)
	}
	return args, nil
}
