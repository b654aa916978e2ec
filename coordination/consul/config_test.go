package consul_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/coordination/consul"
)

func TestValidate(t *testing.T) {
	if err := consul.DefaultConfig().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*consul.Config)
		want   string // in the error, or "" for none
	}{
		"all kinds of addresses": {func(c *consul.Config) {
			c.Addresses = []string{"h:1", "[::1]:8500", "http://h:1", "https://h:1/", "unix:///run/consul.sock"}
		}, ""},
		"no address":      {func(c *consul.Config) { c.Addresses = nil }, "addresses"},
		"an empty one":    {func(c *consul.Config) { c.Addresses = []string{""} }, "addresses"},
		"no port":         {func(c *consul.Config) { c.Addresses = []string{"h"} }, "addresses"},
		"no host":         {func(c *consul.Config) { c.Addresses = []string{":8500"} }, "addresses"},
		"a path":          {func(c *consul.Config) { c.Addresses = []string{"http://h:1/v1"} }, "addresses"},
		"a password":      {func(c *consul.Config) { c.Addresses = []string{"http://u:p@h:1"} }, "addresses"},
		"another scheme":  {func(c *consul.Config) { c.Addresses = []string{"ftp://h:1"} }, "addresses"},
		"relative socket": {func(c *consul.Config) { c.Addresses = []string{"unix://run/s"} }, "addresses"},
		"deep prefix":     {func(c *consul.Config) { c.Prefix = "teams/a-b/dvold.v1" }, ""},
		"no prefix":       {func(c *consul.Config) { c.Prefix = "" }, "prefix"},
		"slash in front":  {func(c *consul.Config) { c.Prefix = "/dvold" }, "prefix"},
		"slash behind":    {func(c *consul.Config) { c.Prefix = "dvold/" }, "prefix"},
		"dots":            {func(c *consul.Config) { c.Prefix = "dvold/../other" }, "prefix"},
		"a space":         {func(c *consul.Config) { c.Prefix = "dvold 2" }, "prefix"},
		"no TTL":          {func(c *consul.Config) { c.TTL = 0 }, "ttl"},
		"a long TTL":      {func(c *consul.Config) { c.TTL = 25 * time.Hour }, "ttl"},
		"half a pair":     {func(c *consul.Config) { c.TLS.CertFile = "cert.pem" }, "tls"},
	} {
		cfg := consul.DefaultConfig()
		c.change(&cfg)
		err := cfg.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%s: got error %v, want %q", name, err, c.want)
		}
	}
}

// Open reads the files, and needs no Consul.
func TestOpen(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		change func(*consul.Config)
		ok     bool
		want   error
	}{
		"no Consul":        {func(*consul.Config) {}, true, nil},
		"a token":          {func(c *consul.Config) { c.TokenFile = file("token", "secret\n") }, true, nil},
		"no token there":   {func(c *consul.Config) { c.TokenFile = filepath.Join(dir, "none") }, false, fs.ErrNotExist},
		"an empty token":   {func(c *consul.Config) { c.TokenFile = file("empty", "\n") }, false, nil},
		"no CA there":      {func(c *consul.Config) { c.TLS.CAFile = filepath.Join(dir, "none") }, false, fs.ErrNotExist},
		"a CA of nonsense": {func(c *consul.Config) { c.TLS.CAFile = file("ca", "nonsense") }, false, nil},
		"no certificate":   {func(c *consul.Config) { c.TLS.CertFile, c.TLS.KeyFile = "none", "none" }, false, fs.ErrNotExist},
		"not valid":        {func(c *consul.Config) { c.Prefix = "" }, false, nil},
	} {
		cfg := consul.DefaultConfig()
		cfg.Addresses = []string{"127.0.0.1:1"}
		c.change(&cfg)
		s, err := consul.Open(cfg, slog.New(slog.DiscardHandler))
		if (err == nil) != c.ok || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: got error %v", name, err)
		}
		if s != nil {
			if err := s.Close(); err != nil {
				t.Errorf("%s: Close: %v", name, err)
			}
		}
	}
}
