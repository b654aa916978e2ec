package gluster

import (
	"fmt"
	"net/netip"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/program"
)

// Config describes a pool.
type Config struct {
	// Servers are some of those that have the Gluster volume, by name or
	// address: any of them tells a client of all others, so that it does not
	// matter which of them are down.
	Servers []string `yaml:"servers"`
	// Volume is the Gluster volume.
	Volume string `yaml:"volume"`
	// Subdir is the directory of it that is the pool; empty means all of it.
	Subdir string `yaml:"subdir"`
	// GlusterVolumes are other Gluster volumes of the same servers, or patterns
	// as of path.Match, which whole may be used as volumes.
	GlusterVolumes []string `yaml:"gluster_volumes"`

	// Transport is tcp or rdma; empty means what the Gluster volume says.
	Transport string `yaml:"transport"`
	// TLS says that glusterd speaks TLS, as it does where the file
	// /var/lib/glusterd/secure-access exists. Whether bricks do is up to the
	// Gluster volume.
	TLS bool `yaml:"tls"`
	// Caching lets clients believe for a second what they know of files and
	// directories, and write late what was closed, also where other hosts may write:
	// faster, and right if no two hosts use a volume at once. Exclusive volumes have
	// it in any case, but for late writes.
	Caching bool `yaml:"caching"`

	// LogDir is where clients write their logs, and LogLevel what.
	LogDir   string `yaml:"log_dir"`
	LogLevel string `yaml:"log_level"`

	// Management runs gluster(8) on a server of the Gluster volume, to which its
	// arguments are appended: the absolute path of a program that nobody but root
	// can change, /usr/sbin/gluster on a server, or ssh and its arguments elsewhere.
	// Without it there are no sizes, and no fence.
	Management []string `yaml:"management"`
	// ManagementTimeout is how long one such command may take.
	ManagementTimeout time.Duration `yaml:"management_timeout"`

	// ClientAddress is the address of this host from which the clients of exclusive
	// volumes reach the bricks where there is Management, and that a fence rejects;
	// empty means the one that is taken for the way there.
	ClientAddress string `yaml:"client_address"`

	// MountTimeout is how long it may take until a client answers.
	MountTimeout time.Duration `yaml:"mount_timeout"`
	// ClientGrace is how long a shared client runs on without a volume.
	ClientGrace time.Duration `yaml:"client_grace"`
}

// DefaultConfig returns what holds where a configuration says nothing else.
func DefaultConfig() Config {
	return Config{LogDir: "/var/log/glusterfs", LogLevel: "WARNING", ManagementTimeout: 30 * time.Second, MountTimeout: 15 * time.Second, ClientGrace: time.Minute}
}

// Location tells people where the pool lies.
func (c Config) Location() string {
	return strings.Join(c.Servers, ",") + ":/" + path.Join(c.Volume, strings.TrimPrefix(c.Subdir, "/"))
}

// Place tells where the pool lies: in a Gluster volume that has those names, any of which
// another pool in it may have, too, and there in that directory.
func (c Config) Place() (names []string, dir string) {
	for _, server := range c.Servers {
		names = append(names, server+":"+c.Volume)
	}
	return names, c.Subdir
}

// lets tells whether the configuration lets that Gluster volume be used as a whole.
func (c Config) lets(volume string) bool {
	return slices.ContainsFunc(c.GlusterVolumes, func(pattern string) bool {
		ok, err := path.Match(pattern, volume)
		return err == nil && ok
	})
}

// What MountTimeout and ManagementTimeout may be: Docker waits two minutes.
const (
	minMountTimeout = time.Second
	maxMountTimeout = 80 * time.Second
)

var (
	// As glusterd has it: cli_cmd_volume_create_parse in cli-cmd-parser.c.
	volumePattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,253}$`)
	// A name or an address, also of IP version 6.
	serverPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,252}$`)
)

// Validate returns an error that names the key at fault.
func (c Config) Validate() error {
	if len(c.Servers) == 0 {
		return fmt.Errorf("servers: want at least one server of the Gluster volume")
	}
	for _, s := range c.Servers {
		if !serverPattern.MatchString(s) {
			return fmt.Errorf("servers: %q is no name or address of a server", s)
		}
	}
	if !volumePattern.MatchString(c.Volume) {
		return fmt.Errorf("volume: %q is no name of a Gluster volume", c.Volume)
	}
	if c.Subdir != "" && !backends.IsPlainPath(strings.TrimPrefix(c.Subdir, "/")) {
		return fmt.Errorf(`subdir: %q is not a path free of ".", "..", needless slashes and control characters`, c.Subdir)
	}
	for _, pattern := range c.GlusterVolumes {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("gluster_volumes: %q is no pattern", pattern)
		}
	}
	if !slices.Contains([]string{"", "tcp", "rdma"}, c.Transport) {
		return fmt.Errorf("transport: %q is not one of: tcp, rdma", c.Transport)
	}
	if !filepath.IsAbs(c.LogDir) {
		return fmt.Errorf("log_dir: %q is not an absolute path", c.LogDir)
	}
	if levels := []string{"TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "NONE"}; !slices.Contains(levels, c.LogLevel) {
		return fmt.Errorf("log_level: %q is not one of: %s", c.LogLevel, strings.Join(levels, ", "))
	}
	if err := c.validateManagement(); err != nil {
		return err
	}
	if c.MountTimeout < minMountTimeout || c.MountTimeout > maxMountTimeout {
		return fmt.Errorf("mount_timeout: %v is not between %v and %v", c.MountTimeout, minMountTimeout, maxMountTimeout)
	}
	if c.ClientGrace < 0 {
		return fmt.Errorf("client_grace: %v is below 0", c.ClientGrace)
	}
	return nil
}

func (c Config) validateManagement() error {
	if c.ManagementTimeout < minMountTimeout || c.ManagementTimeout > maxMountTimeout {
		return fmt.Errorf("management_timeout: %v is not between %v and %v", c.ManagementTimeout, minMountTimeout, maxMountTimeout)
	}
	if c.ClientAddress != "" {
		if a, err := netip.ParseAddr(c.ClientAddress); err != nil || a.Zone() != "" {
			return fmt.Errorf("client_address: %q is not an address", c.ClientAddress)
		}
	}
	if len(c.Management) == 0 {
		return nil
	}
	if !filepath.IsAbs(c.Management[0]) {
		return fmt.Errorf("management: %q does not begin with an absolute path", c.Management)
	}
	if err := program.CheckTrusted(c.Management[0]); err != nil {
		return fmt.Errorf("management: %w", err)
	}
	return nil
}
