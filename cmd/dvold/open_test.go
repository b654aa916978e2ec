package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/dvol/dvold/coordination/consul"
	"github.com/dvol/dvold/coordination/embedded"
	"github.com/dvol/dvold/internal/config"
)

// loadText loads a configuration, with the state in a directory of the test's.
func loadText(t *testing.T, text string) config.Config {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "dvold.yaml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("dvold", pflag.ContinueOnError)
	config.Flags(flags)
	if err := flags.Parse([]string{"--config", path, "--state-dir", filepath.Join(dir, "state")}); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(flags)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestOpenPools(t *testing.T) {
	cfg := loadText(t, `default_pool: own
pools:
  own: {type: local, path: DIR/own}
  all: {type: local, path: DIR/all, shared: true}
`)
	pools, err := openPools(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil || len(pools) != 2 {
		t.Fatalf("got %v, %v", pools, err)
	}
	for _, p := range pools {
		if p.Shared != (p.Name == "all") || filepath.Base(p.Location) != p.Name || p.Type != "local" || p.TrashTTL != cfg.TrashTTL.Duration {
			t.Errorf("got %+v", p)
		}
		if _, err := os.Stat(p.Location); !os.IsNotExist(err) {
			t.Errorf("opening touched the storage: %v", err)
		}
	}
	if err := closePools(pools); err != nil {
		t.Error(err)
	}
}

func TestOpenPoolOfUnknownType(t *testing.T) {
	_, err := openPools(t.Context(), loadText(t, "pools: {a: {type: floppy}}\n"), slog.New(slog.DiscardHandler))
	if want := `pool "a": type "floppy" is not one of: cephfs, gluster, local, nfs, rbd`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Opening asks no server, so a host starts while Consul is away; but files that
// are named must be there.
func TestOpenCoordinator(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	c, err := openCoordinator(t.Context(), loadText(t, "\n"), log)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.(*embedded.Store); !ok {
		t.Errorf("by default: got %T", c)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}

	const ofConsul = "coordination:\n  type: consul\n  addresses: [https://127.0.0.1:1, 'unix:///nowhere']\n  prefix: a/b\n  lease_ttl: 10s\n"
	c, err = openCoordinator(t.Context(), loadText(t, ofConsul+"  server_name: consul\n"), log)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.(*consul.Store); !ok {
		t.Errorf("with Consul: got %T", c)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for _, file := range []string{"token_file: DIR/missing", "ca_file: DIR/missing", "cert_file: DIR/missing\n  key_file: DIR/missing"} {
		if c, err := openCoordinator(t.Context(), loadText(t, ofConsul+"  "+file+"\n"), log); err == nil || !strings.Contains(err.Error(), "missing") {
			t.Errorf("%s: got %v, %v, want an error", file, c, err)
		}
	}
}

// Whatever the configuration takes, Consul's package takes, too.
func TestConsulTakesWhatIsConfigured(t *testing.T) {
	for _, lines := range []string{
		"lease_ttl: 10s", "lease_ttl: 1d", "prefix: a", "prefix: ..a/b.c/-_", "prefix: " + strings.Repeat("p", 128),
		"addresses: ['[::1]:8500', 'http://a:1/', 'https://b_c:65535', 'unix:///run//consul.sock']",
	} {
		c, err := openCoordinator(t.Context(), loadText(t, "coordination:\n  type: consul\n  "+lines+"\n"), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Errorf("%s: %v", lines, err)
			continue
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
