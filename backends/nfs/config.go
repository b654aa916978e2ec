package nfs

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dvol/dvold/backends"
)

// Config describes a pool.
type Config struct {
	// Server has the export, by name or address.
	Server string `yaml:"server"`
	// Export is the path that the server exports.
	Export string `yaml:"export"`
	// Subdir is the directory of it that is the pool; empty means all of it.
	Subdir string `yaml:"subdir"`

	// Shares are other exports, of any server, that may be volumes as they are:
	// SERVER:/PATH, or patterns of such as of path.Match, to which the brackets of an
	// address are \[ and \].
	Shares []string `yaml:"shares"`

	// Version is that of the protocol: 3, 4.0, 4.1 or 4.2. Empty means the
	// highest of 4.2, 4.1 and 4.0 that the server speaks.
	Version string `yaml:"version"`
	// Port is where the server answers.
	Port int `yaml:"port"`
	// Sec is how users are known: sys, krb5, krb5i or krb5p.
	Sec string `yaml:"sec"`
	// Options are more options of mounts, as nfs(5) has them: NAME or
	// NAME=VALUE. See optionValues for those that may be set.
	Options []string `yaml:"options"`

	// MountTimeout is how long a mount may take.
	MountTimeout time.Duration `yaml:"mount_timeout"`
	// MountGrace is how long the shared mount stays without a volume.
	MountGrace time.Duration `yaml:"mount_grace"`
}

// DefaultConfig returns what holds where a configuration says nothing else.
func DefaultConfig() Config {
	return Config{Port: 2049, Sec: "sys", MountTimeout: 15 * time.Second, MountGrace: time.Minute}
}

// Location tells people where the pool lies.
func (c Config) Location() string { return c.source() }

// Place tells where the pool lies: on a server that has those names, any of which another
// pool on it may have, too, and there in that directory.
func (c Config) Place() (names []string, dir string) { return []string{c.Server}, c.path() }

// lets tells whether the configuration lets SERVER:/PATH be used as it is.
func (c Config) lets(share string) bool {
	return slices.ContainsFunc(c.Shares, func(pattern string) bool {
		// To a pattern the brackets of an address of IP version 6 are a class.
		ok, err := path.Match(pattern, share)
		return pattern == share || err == nil && ok
	})
}

// meets tells whether what two configurations mount is one, or one lies within the other.
func (c Config) meets(other Config) bool {
	return c.Server == other.Server && backends.Overlap(c.path(), other.path())
}

// source is what is mounted: SERVER:PATH.
func (c Config) source() string {
	server := c.Server
	if strings.Contains(server, ":") {
		server = "[" + server + "]"
	}
	return server + ":" + c.path()
}

// path is where the pool lies on the server.
func (c Config) path() string { return path.Join(c.Export, c.Subdir) }

// versions are those to be tried, the best first.
func (c Config) versions() []string {
	if c.Version == "" {
		return []string{"4.2", "4.1", "4.0"}
	}
	return []string{c.Version}
}

// What MountTimeout may be: Docker waits two minutes.
const (
	minMountTimeout = time.Second
	maxMountTimeout = 80 * time.Second
)

// A name or an address, also of IP version 6.
var serverPattern = regexp.MustCompile(`^[A-Za-z0-9_:][A-Za-z0-9_.:-]{0,252}$`)

// Validate returns an error that names the key at fault.
func (c Config) Validate() error {
	if !serverPattern.MatchString(c.Server) {
		return fmt.Errorf("server: %q is no name or address of a server", c.Server)
	}
	if !path.IsAbs(c.Export) || path.Clean(c.Export) != c.Export || backends.HasControl(c.Export) {
		return fmt.Errorf(`export: %q is not an absolute path free of ".", "..", needless slashes and control characters`, c.Export)
	}
	if c.Subdir != "" && !backends.IsPlainPath(strings.TrimPrefix(c.Subdir, "/")) {
		return fmt.Errorf(`subdir: %q is not a path free of ".", "..", needless slashes and control characters`, c.Subdir)
	}
	for _, pattern := range c.Shares {
		if _, err := path.Match(pattern, ""); err != nil || !strings.Contains(pattern, ":/") {
			return fmt.Errorf("shares: %q is not SERVER:/PATH, nor a pattern of such", pattern)
		}
	}
	if versions := []string{"", "3", "4.0", "4.1", "4.2"}; !slices.Contains(versions, c.Version) {
		return fmt.Errorf("version: %q is not one of: %s", c.Version, strings.Join(versions[1:], ", "))
	}
	if c.Port < 1 || c.Port > 65535 {
		return fmt.Errorf("port: %d is not between 1 and 65535", c.Port)
	}
	if kinds := []string{"sys", "krb5", "krb5i", "krb5p"}; !slices.Contains(kinds, c.Sec) {
		return fmt.Errorf("sec: %q is not one of: %s", c.Sec, strings.Join(kinds, ", "))
	}
	if err := c.validateOptions(); err != nil {
		return fmt.Errorf("options: %w", err)
	}
	if c.MountTimeout < minMountTimeout || c.MountTimeout > maxMountTimeout {
		return fmt.Errorf("mount_timeout: %v is not between %v and %v", c.MountTimeout, minMountTimeout, maxMountTimeout)
	}
	if c.MountGrace < 0 {
		return fmt.Errorf("mount_grace: %v is below 0", c.MountGrace)
	}
	return nil
}
