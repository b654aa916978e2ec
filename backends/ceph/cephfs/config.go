package cephfs

import (
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
)

// Config describes a pool.
type Config struct {
	// Cluster says where the cluster is, and as whom clients use it.
	Cluster ceph.Config `yaml:"cluster"`
	// FileSystem is the name of the CephFS; empty means the cluster's default one.
	FileSystem string `yaml:"filesystem"`
	// Subdir is the directory of it that is the pool; empty means all of it.
	Subdir string `yaml:"subdir"`
	// SubvolumeGroup has volumes be sub-volumes of that group of the file system, which the
	// cluster's manager makes; the pool is the directory of the group then.
	SubvolumeGroup string `yaml:"subvolume_group"`

	// Client is "kernel" or "fuse". Empty means the kernel's client where there is one, but
	// ceph-fuse for exclusive volumes where that is installed.
	Client string `yaml:"client"`

	// Fencer is a user that may have the cluster refuse clients, and let them in again;
	// without one there is no fence. FencerKeyring is the file with its key; empty
	// means /etc/ceph/ceph.client.FENCER.keyring.
	Fencer        string `yaml:"fencer"`
	FencerKeyring string `yaml:"fencer_keyring"`

	// LogDir is where clients write their logs.
	LogDir string `yaml:"log_dir"`
	// MountTimeout is how long it may take until a client answers.
	MountTimeout time.Duration `yaml:"mount_timeout"`
	// ClientGrace is how long the shared client runs on without a volume.
	ClientGrace time.Duration `yaml:"client_grace"`
}

// DefaultConfig returns what holds where a configuration says nothing else.
func DefaultConfig() Config {
	return Config{Cluster: ceph.DefaultConfig(), LogDir: "/var/log/ceph", MountTimeout: 15 * time.Second, ClientGrace: time.Minute}
}

// Location tells people where the pool lies.
func (c Config) Location() string {
	return c.Cluster.Hosts() + ":" + path.Join("/", c.FileSystem, c.dir())
}

// Place tells where the pool lies: in a CephFS that has those names, any of which another
// pool in it may have, too, and there in that directory.
func (c Config) Place() (names []string, dir string) {
	clusters := c.Cluster.Monitors
	if c.Cluster.Conf != "" {
		clusters = []string{c.Cluster.Conf}
	}
	for _, cluster := range clusters {
		names = append(names, cluster+":"+c.FileSystem)
	}
	return names, c.dir()
}

// groupsDir is where the manager keeps its groups of sub-volumes.
const groupsDir = "volumes"

// dir is the directory of the file system that is the pool, without a slash before it.
func (c Config) dir() string {
	if c.SubvolumeGroup != "" {
		return path.Join(groupsDir, c.SubvolumeGroup)
	}
	return strings.TrimPrefix(c.Subdir, "/")
}

// remedy is what to do if that is missing.
func (c Config) remedy() string {
	if c.SubvolumeGroup != "" {
		return fmt.Sprintf("run ceph fs subvolumegroup create %s %s, or change the pool's subvolume_group", c.FileSystem, c.SubvolumeGroup)
	}
	return "make it, or change the pool's subdir"
}

// What MountTimeout may be: Docker waits two minutes.
const (
	minMountTimeout = time.Second
	maxMountTimeout = 80 * time.Second
)

// As the monitors have it: FSMap's names in "fs new".
var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,252}$`)

// Validate returns an error that names the key at fault.
func (c Config) Validate() error {
	if err := c.Cluster.Validate(); err != nil {
		return fmt.Errorf("cluster.%w", err)
	}
	if c.FileSystem != "" && !namePattern.MatchString(c.FileSystem) {
		return fmt.Errorf("filesystem: %q is no name of a CephFS", c.FileSystem)
	}
	if c.Subdir != "" && !backends.IsPlainPath(strings.TrimPrefix(c.Subdir, "/")) {
		return fmt.Errorf(`subdir: %q is not a path free of ".", "..", needless slashes and control characters`, c.Subdir)
	}
	if c.SubvolumeGroup != "" {
		if err := c.checkGroup(); err != nil {
			return fmt.Errorf("subvolume_group: %w", err)
		}
	}
	switch {
	case c.Client != "" && c.Client != clientKernel && c.Client != clientFUSE:
		return fmt.Errorf("client: %q is neither %s nor %s", c.Client, clientKernel, clientFUSE)
	case c.Client == clientKernel && len(c.Cluster.Monitors) == 0:
		return fmt.Errorf("client: %s wants cluster.monitors, not cluster.conf", clientKernel)
	}
	if c.Fencer == "" && c.FencerKeyring != "" {
		return fmt.Errorf("fencer_keyring: want the user, fencer, too")
	}
	if c.Fencer != "" {
		if !hasLibraries {
			return fmt.Errorf("fencer: this dvold was built without the libraries of Ceph, and can't fence: leave it out, or take one that was built with them (docs/cephfs.md)")
		}
		if err := c.fencer().Validate(); err != nil {
			return fmt.Errorf("fencer: %w", err)
		}
	}
	if !filepath.IsAbs(c.LogDir) {
		return fmt.Errorf("log_dir: %q is not an absolute path", c.LogDir)
	}
	if c.MountTimeout < minMountTimeout || c.MountTimeout > maxMountTimeout {
		return fmt.Errorf("mount_timeout: %v is not between %v and %v", c.MountTimeout, minMountTimeout, maxMountTimeout)
	}
	if c.ClientGrace < 0 {
		return fmt.Errorf("client_grace: %v is below 0", c.ClientGrace)
	}
	return nil
}

// A group's name is part of those of files that the manager keeps, with that of a
// sub-volume; what begins with "_" is its own.
var groupPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

func (c Config) checkGroup() error {
	switch {
	case !hasLibraries:
		return fmt.Errorf("this dvold was built without the libraries of Ceph, and can't ask the manager for sub-volumes: leave it out, or take one that was built with them (docs/cephfs.md)")
	case !groupPattern.MatchString(c.SubvolumeGroup):
		return fmt.Errorf("%q is no name of a group of sub-volumes", c.SubvolumeGroup)
	case c.FileSystem == "":
		return fmt.Errorf("want filesystem, too: the manager knows no default one")
	case c.Subdir != "":
		return fmt.Errorf("the pool is the directory of the group: leave subdir out")
	}
	return nil
}

// fencer is how the cluster is used to fence.
func (c Config) fencer() ceph.Config {
	f := c.Cluster
	f.User, f.Keyring = c.Fencer, c.FencerKeyring
	return f
}
