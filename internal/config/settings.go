package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// setting is a text of the configuration.
type setting struct {
	key   string // in the file; a dot stands for a level
	value string // default
	usage string
	set   func(c *Config, value string) error // checks value, too
}

func (s setting) flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(s.key) }
func (s setting) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// isList says that the file may have a list instead of a text with commas.
func (s setting) isList() bool { return s.key == coordinationAddresses }

// settings is the one list of them.
func settings() []setting {
	return slices.Concat([]setting{
		{"host", "", "`name` of this host in the cluster (default the machine's host name)", func(c *Config, v string) error {
			c.Host = v
			if !matches(`[A-Za-z0-9][A-Za-z0-9._-]{0,63}`, v) {
				return fmt.Errorf("%q is not a host name: want up to 64 letters, digits, dots, dashes and underscores", v)
			}
			return nil
		}},
		{"state_dir", "/var/lib/dvol", "`directory` of what dvold must know after a reboot", func(c *Config, v string) (err error) {
			c.StateDir, err = absolute(v)
			return err
		}},
		{"run_dir", "/run/dvol", "`directory` of what dvold need not know after a reboot", func(c *Config, v string) (err error) {
			c.RunDir, err = absolute(v)
			return err
		}},
		{"docker_socket", "/run/docker/plugins/dvol.sock", "`socket` that Docker calls", func(c *Config, v string) (err error) {
			c.DockerSocket, err = socket(v)
			return err
		}},
		{"admin_socket", "/run/dvol/admin.sock", "`socket` that the dvold command calls", func(c *Config, v string) (err error) {
			c.AdminSocket, err = socket(v)
			return err
		}},
		{"log.level", "info", "`level` from which on to log: debug, info, warn or error", func(c *Config, v string) error {
			c.Log.Level = v
			return oneOf(v, "debug", "info", "warn", "error")
		}},
		{"log.format", "text", "`format` of the log: text or json", func(c *Config, v string) error {
			c.Log.Format = v
			return oneOf(v, "text", "json")
		}},
		{"default_pool", "", "`pool` for volumes that name none (default the only pool)", func(c *Config, v string) error {
			c.DefaultPool = v
			return nil // checked against the pools
		}},
		{"trash_ttl", "24h", "`time` to keep the data of removed volumes, such as 12h or 7d", func(c *Config, v string) error {
			return c.TrashTTL.UnmarshalText([]byte(v))
		}},
	}, coordinationSettings(), guardSettings())
}

func oneOf(v string, valid ...string) error {
	if slices.Contains(valid, v) {
		return nil
	}
	return fmt.Errorf("%q is not one of: %s", v, strings.Join(valid, ", "))
}

// absolute returns the path v in its shortest form.
func absolute(v string) (string, error) {
	if !filepath.IsAbs(v) || filepath.Clean(v) == "/" || strings.ContainsRune(v, 0) {
		return "", fmt.Errorf("%q is not an absolute path below /", v)
	}
	return filepath.Clean(v), nil
}

// socket is absolute for what the kernel takes as a socket's name, unix(7).
func socket(v string) (string, error) {
	const longest = 107
	v, err := absolute(v)
	if err == nil && len(v) > longest {
		err = errors.New(v + " is too long for a socket, which may have " + fmt.Sprint(longest) + " bytes")
	}
	return v, err
}
