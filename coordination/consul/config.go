package consul

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"
)

// Config says where Consul is and what in it is dvold's.
type Config struct {
	// Addresses of agents, or servers, of one cluster: "host:port",
	// "http://host:port", "https://host:port" or "unix:///path". One is used
	// until it fails, then the next.
	Addresses []string
	// Prefix of all keys, as "dvol"; hosts that share it are a cluster.
	Prefix string
	// TokenFile has the ACL token, and is read again when it changes. None
	// means the agent's own token, or no ACLs.
	TokenFile string
	// TTL is how long a host that stopped reporting may believe in its
	// session; Consul gives it up after twice that. Consul refuses less than
	// its session_ttl_min, 10 s by default.
	TTL time.Duration
	TLS TLS
}

// TLS is for addresses that begin with https.
type TLS struct {
	CAFile     string // who signed the agents' certificates; otherwise the system's
	CertFile   string // of this host, if the agents ask for one
	KeyFile    string
	ServerName string // in the agents' certificates, if not their address
}

// Limits of Config.TTL: below, the lease would be mostly margin; above, Consul
// refuses it.
const (
	minTTL = time.Second
	maxTTL = 24 * time.Hour
)

// DefaultConfig is for an agent on this host.
func DefaultConfig() Config {
	return Config{
		Addresses: []string{"127.0.0.1:8500"},
		Prefix:    "dvol",
		TTL:       20 * time.Second, // more than a leader's crash takes with Consul's default raft_multiplier
	}
}

// Validate tells what is wrong, without looking at files or asking Consul.
func (c Config) Validate() error {
	if len(c.Addresses) == 0 {
		return errors.New("addresses: none")
	}
	for _, address := range c.Addresses {
		if _, err := parseAddress(address); err != nil {
			return fmt.Errorf("addresses: %w", err)
		}
	}
	for word := range strings.SplitSeq(c.Prefix, "/") {
		if word == "" || strings.Trim(word, ".") == "" || strings.ContainsFunc(word, func(r rune) bool {
			return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", r)
		}) {
			return fmt.Errorf("prefix: %q is not made of slashes and words of letters, digits, dots, - or _", c.Prefix)
		}
	}
	if c.TTL < minTTL || c.TTL > maxTTL {
		return fmt.Errorf("ttl: %v is not between %v and %v", c.TTL, minTTL, maxTTL)
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		return errors.New("tls: a certificate needs a key, and a key a certificate")
	}
	return nil
}

// parseAddress returns the URL of an agent, with the socket's path as Path if
// its scheme is unix.
func parseAddress(address string) (*url.URL, error) {
	full := address
	if !strings.Contains(address, "://") {
		full = "http://" + address
	}
	u, err := url.Parse(full)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", address, err)
	}
	switch {
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
	case u.Scheme == "unix" && u.Host == "" && strings.HasPrefix(u.Path, "/"):
		return u, nil
	case (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.Port() != "" && strings.Trim(u.Path, "/") == "":
		u.Path = ""
		return u, nil
	}
	return nil, fmt.Errorf("%q is not host:port, http://host:port, https://host:port or unix:///path", address)
}

// client reads the files.
func (t TLS) client() (*tls.Config, error) {
	cfg := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the CA's certificates: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read the CA's certificates: %s has none", t.CAFile)
		}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}
