// Package ceph is a connection with a Ceph cluster, for the pools that lie in one,
// and how a client of the cluster is fenced.
//
// It needs Ceph's libraries, and so the build tag ceph (hack/ceph-tags). Without it
// there is only what a configuration says.
package ceph

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// Config says where a cluster is, and as whom it is used.
type Config struct {
	// Conf is a ceph.conf(5) that names the monitors, and Monitors are those if
	// there is none: addresses, or names, each with a port or not.
	Conf     string   `yaml:"conf"`
	Monitors []string `yaml:"monitors"`
	// User is the name of the user, without "client.", and Keyring the file with its
	// key; empty means /etc/ceph/ceph.client.USER.keyring. The key itself is nowhere else.
	User    string `yaml:"user"`
	Keyring string `yaml:"keyring"`

	// ConnectTimeout is how long it may take to reach the cluster, and CallTimeout
	// to have it answer one request.
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	CallTimeout    time.Duration `yaml:"call_timeout"`
}

// DefaultConfig returns what holds where a configuration says nothing else.
func DefaultConfig() Config {
	return Config{User: "dvol", ConnectTimeout: 10 * time.Second, CallTimeout: 15 * time.Second}
}

// What timeouts may be: Docker waits for one minute or two.
const (
	minTimeout = time.Second
	maxTimeout = 60 * time.Second
)

var (
	// As in auth entities; a slash or a space would be more than a name to those
	// who read it.
	userPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)
	// A name or an address, also of IP version 6, with a port or without.
	monitorPattern = regexp.MustCompile(`^[A-Za-z0-9_.:/\[\]-]{1,253}$`)
)

// Validate returns an error that names the key at fault.
func (c Config) Validate() error {
	switch {
	case c.Conf == "" && len(c.Monitors) == 0:
		return fmt.Errorf("monitors: want the addresses of the cluster's monitors, or conf, a ceph.conf that has them")
	case c.Conf != "" && len(c.Monitors) > 0:
		return fmt.Errorf("monitors: conf says already where they are")
	case c.Conf != "" && !filepath.IsAbs(c.Conf):
		return fmt.Errorf("conf: %q is not an absolute path", c.Conf)
	case !userPattern.MatchString(c.User):
		return fmt.Errorf("user: %q is no name of a user of Ceph", c.User)
	case strings.HasPrefix(c.User, "client."):
		return fmt.Errorf("user: want %q, without \"client.\"", strings.TrimPrefix(c.User, "client."))
	case c.Keyring != "" && !filepath.IsAbs(c.Keyring):
		return fmt.Errorf("keyring: %q is not an absolute path", c.Keyring)
	}
	for _, m := range c.Monitors {
		if !monitorPattern.MatchString(m) {
			return fmt.Errorf("monitors: %q is no address of a monitor", m)
		}
	}
	for key, t := range map[string]time.Duration{"connect_timeout": c.ConnectTimeout, "call_timeout": c.CallTimeout} {
		if t < minTimeout || t > maxTimeout {
			return fmt.Errorf("%s: %v is not between %v and %v", key, t, minTimeout, maxTimeout)
		}
	}
	return nil
}

// KeyringPath is the file with the user's key.
func (c Config) KeyringPath() string {
	if c.Keyring != "" {
		return c.Keyring
	}
	return "/etc/ceph/ceph.client." + c.User + ".keyring"
}

// Hosts tells people which cluster it is.
func (c Config) Hosts() string {
	if c.Conf != "" {
		return c.Conf
	}
	return strings.Join(c.Monitors, ",")
}

// Arguments are those by which a program of Ceph's is the user: files, never keys.
func (c Config) Arguments() []string {
	args := []string{"--id", c.User, "--keyring", c.KeyringPath()}
	if c.Conf != "" {
		return append(args, "--conf", c.Conf)
	}
	return append(args, "--no-config-file", "-m", strings.Join(c.Monitors, ","))
}
