package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Coordination says how the hosts agree.
type Coordination struct {
	Type string `yaml:"type"` // embedded or consul

	// Of Consul.
	Addresses  []string `yaml:"addresses"`   // of agents: host:port, http://…, https://… or unix:///…; at least one
	Prefix     string   `yaml:"prefix"`      // of all keys: words with slashes between
	TokenFile  string   `yaml:"token_file"`  // absolute path, or none
	LeaseTTL   Duration `yaml:"lease_ttl"`   // 10 s to 24 h
	CAFile     string   `yaml:"ca_file"`     // absolute path, or none
	CertFile   string   `yaml:"cert_file"`   // absolute path, or none
	KeyFile    string   `yaml:"key_file"`    // absolute path; there exactly if CertFile is
	ServerName string   `yaml:"server_name"` // in the agents' certificates, or none
}

const (
	coordinationType      = "coordination.type"
	coordinationAddresses = "coordination.addresses"
)

// coordinationSettings are those of the section coordination.
func coordinationSettings() []setting {
	return []setting{
		{coordinationType, "embedded", "how hosts agree: `type` embedded, for one host, or consul", func(c *Config, v string) error {
			c.Coordination.Type = v
			return oneOf(v, "embedded", "consul")
		}},
		{coordinationAddresses, "127.0.0.1:8500", "`addresses` of Consul agents, separated by commas", func(c *Config, v string) (err error) {
			c.Coordination.Addresses, err = agents(v)
			return err
		}},
		{"coordination.prefix", "dvol", "`prefix` of the cluster's keys in Consul", func(c *Config, v string) error {
			c.Coordination.Prefix = v
			return keyPrefix(v)
		}},
		{"coordination.token_file", "", "`file` with the ACL token for Consul", func(c *Config, v string) (err error) {
			c.Coordination.TokenFile, err = optionalFile(v)
			return err
		}},
		{"coordination.lease_ttl", "20s", "`time` that a host which hears nothing of Consul stays a member", func(c *Config, v string) (err error) {
			c.Coordination.LeaseTTL, err = lease(v)
			return err
		}},
		{"coordination.ca_file", "", "`file` with the certificates that Consul's must be signed by", func(c *Config, v string) (err error) {
			c.Coordination.CAFile, err = optionalFile(v)
			return err
		}},
		{"coordination.cert_file", "", "`file` with this host's certificate for Consul", func(c *Config, v string) (err error) {
			c.Coordination.CertFile, err = optionalFile(v)
			return err
		}},
		{"coordination.key_file", "", "`file` with the key of that certificate", func(c *Config, v string) (err error) {
			c.Coordination.KeyFile, err = optionalFile(v)
			return err
		}},
		{"coordination.server_name", "", "`name` in the certificates of Consul, if not its address", func(c *Config, v string) error {
			c.Coordination.ServerName = v
			if v != "" && !matches(`[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?`, v) {
				return fmt.Errorf("%q is not a name that a certificate can have", v)
			}
			return nil
		}},
	}
}

// checkCoordination returns an error if what is set goes without what it needs:
// a host that seems to be in a cluster, and is in none, loses data.
func (c *Config) checkCoordination(src *sources) error {
	given := make(map[string]string) // where, by the last word of the key
	for _, s := range coordinationSettings() {
		if s.key == coordinationType || !src.given(s) {
			continue
		}
		if c.Coordination.Type != "consul" {
			return fmt.Errorf("%s: it is of Consul, and coordination.type is %s: set that to consul, or leave this out", src.origin(s), c.Coordination.Type)
		}
		given[strings.TrimPrefix(s.key, "coordination.")] = src.origin(s)
	}
	switch co := c.Coordination; {
	case co.CertFile != "" && co.KeyFile == "":
		return fmt.Errorf("%s: it needs its key: set coordination.key_file, too", given["cert_file"])
	case co.KeyFile != "" && co.CertFile == "":
		return fmt.Errorf("%s: it needs its certificate: set coordination.cert_file, too", given["key_file"])
	}
	if slices.ContainsFunc(c.Coordination.Addresses, func(a string) bool { return strings.HasPrefix(a, "https://") }) {
		return nil
	}
	for _, key := range []string{"ca_file", "cert_file", "key_file", "server_name"} {
		if given[key] != "" {
			return fmt.Errorf("%s: nothing would be encrypted, for no address in %s begins with https://", given[key], coordinationAddresses)
		}
	}
	return nil
}

// agents returns the addresses that v lists.
func agents(v string) ([]string, error) {
	var addresses []string
	for address := range strings.SplitSeq(v, ",") {
		address = strings.TrimSpace(address)
		if err := checkAgent(address); err != nil {
			return nil, fmt.Errorf("%q: %w", address, err)
		}
		if slices.Contains(addresses, address) {
			return nil, fmt.Errorf("%q is there twice", address)
		}
		addresses = append(addresses, address)
	}
	return addresses, nil
}

func checkAgent(address string) error {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		_, err := socket(path)
		return err
	}
	full := address
	if !strings.HasPrefix(address, "http://") && !strings.HasPrefix(address, "https://") {
		full = "http://" + address
	}
	u, err := url.Parse(full)
	if err == nil && u.Hostname() != "" && u.User == nil && (u.Path == "" || u.Path == "/") && !strings.ContainsAny(full, "?#%") {
		if port, err := strconv.ParseUint(u.Port(), 10, 16); err == nil && port > 0 {
			return nil
		}
	}
	return errors.New("want host:port, http://host:port, https://host:port or unix:///path")
}

// keyPrefix returns an error unless v is words with slashes between.
func keyPrefix(v string) error {
	const longest = 128 // leaves room in the 512 bytes of a key
	valid := len(v) <= longest
	for word := range strings.SplitSeq(v, "/") {
		valid = valid && matches(`[A-Za-z0-9._-]+`, word) && strings.Trim(word, ".") != ""
	}
	if !valid {
		return fmt.Errorf("%q is not a prefix of keys: want words of letters, digits, dots, dashes and underscores, with slashes between, and up to %d bytes", v, longest)
	}
	return nil
}

// optionalFile is absolute for what may be left out.
func optionalFile(v string) (string, error) {
	if v == "" {
		return "", nil
	}
	return absolute(v)
}

// lease returns a time that Consul takes for a session.
func lease(v string) (d Duration, err error) {
	const shortest, longest = 10 * time.Second, 24 * time.Hour
	if err := d.UnmarshalText([]byte(v)); err != nil {
		return d, err
	}
	if d.Duration < shortest || d.Duration > longest {
		return d, fmt.Errorf("%q is not between 10s and 24h, as Consul wants it", v)
	}
	return d, nil
}
