package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/dvol/dvold/internal/config"
)

// FuzzLoad: whatever is in the file, Load ends with a Config that keeps what
// its comments promise, or with an error of one line; the same each time.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatalf("no configurations to begin with: %v", err)
	}
	for _, name := range append(files, "../../docs/dvold.yaml") {
		content, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	path := filepath.Join(f.TempDir(), "dvold.yaml")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := load(t, "--config", path)
		again, errAgain := load(t, "--config", path)
		if (err == nil) != (errAgain == nil) || err != nil && err.Error() != errAgain.Error() {
			t.Fatalf("loaded twice: %v, then %v", err, errAgain)
		}
		if err != nil {
			checkError(t, path, err)
			return
		}
		if !reflect.DeepEqual(c, again) {
			t.Errorf("loaded twice: %+v, then %+v", c, again)
		}
		checkConfig(t, c)
		for name, pool := range c.Pools {
			if pool.Source == "" || pool.Type == "" {
				t.Errorf("pool %s lacks type or source: %+v", name, pool)
			}
			if err := pool.Decode(new(localPool)); err != nil {
				checkError(t, path, err)
			}
			if !strings.HasPrefix(pool.Source, path) {
				continue // the default pool, of type local, stands in no file
			}
			if err := pool.Decode(new(everyKind)); err != nil {
				checkError(t, path, err)
			}
		}
	})
}

// checkError fails the test unless err is one line that says where to look.
func checkError(t *testing.T, path string, err error) {
	t.Helper()
	text := err.Error()
	if strings.ContainsFunc(text, unicode.IsControl) {
		t.Errorf("error is not one clean line: %q", text)
	}
	// What is wrong between two settings has no single place.
	between := strings.HasPrefix(text, "admin_socket and docker_socket are both ") || strings.HasPrefix(text, "default_pool is not set, ")
	if !strings.HasPrefix(text, path+":") && !between {
		t.Errorf("error does not begin with the file's name: %q", text)
	}
}

// checkConfig fails the test unless c is what the rest of dvold relies on.
func checkConfig(t *testing.T, c config.Config) {
	t.Helper()
	if c.Host == "" || len(c.Host) > 64 || strings.ContainsFunc(c.Host, func(r rune) bool { return r > 'z' || strings.ContainsRune(" /\\:\n\t", r) }) {
		t.Errorf("host %q", c.Host)
	}
	for _, p := range []string{c.StateDir, c.RunDir, c.DockerSocket, c.AdminSocket} {
		if !filepath.IsAbs(p) || filepath.Clean(p) != p || p == "/" || strings.Contains(p, "\x00") {
			t.Errorf("path %q", p)
		}
	}
	if len(c.DockerSocket) > 107 || len(c.AdminSocket) > 107 || c.DockerSocket == c.AdminSocket {
		t.Errorf("sockets %q and %q", c.DockerSocket, c.AdminSocket)
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) || !slices.Contains([]string{"text", "json"}, c.Log.Format) {
		t.Errorf("log %+v", c.Log)
	}
	checkCoordination(t, c.Coordination)
	if _, ok := c.Pools[c.DefaultPool]; !ok {
		t.Errorf("default pool %q is none of %v", c.DefaultPool, c.Pools)
	}
	checkTTL(t, c.TrashTTL)
	for name, pool := range c.Pools {
		if name == "" || len(name) > 63 || strings.ContainsAny(name, "./ \n") {
			t.Errorf("pool name %q", name)
		}
		if pool.TrashTTL != nil {
			checkTTL(t, *pool.TrashTTL)
		}
		checkExclusive(t, pool.Exclusive)
	}
}

func checkCoordination(t *testing.T, c config.Coordination) {
	t.Helper()
	encrypted := false
	for _, a := range c.Addresses {
		encrypted = encrypted || strings.HasPrefix(a, "https://")
		if !strings.Contains(a, ":") || strings.ContainsFunc(a, func(r rune) bool { return r <= ' ' }) {
			t.Errorf("address %q", a)
		}
	}
	fromConsul := c.CAFile + c.CertFile + c.KeyFile + c.ServerName
	if len(c.Addresses) == 0 || !slices.Contains([]string{"embedded", "consul"}, c.Type) || !encrypted && fromConsul != "" ||
		c.Type == "embedded" && !reflect.DeepEqual(c, coordinationDefaults()) || (c.CertFile == "") != (c.KeyFile == "") {
		t.Errorf("coordination %+v", c)
	}
	for _, p := range []string{c.TokenFile, c.CAFile, c.CertFile, c.KeyFile} {
		if p != "" && (!filepath.IsAbs(p) || filepath.Clean(p) != p) {
			t.Errorf("path %q", p)
		}
	}
	if c.Prefix == "" || len(c.Prefix) > 128 || strings.Contains("/"+c.Prefix+"/", "//") || strings.ContainsAny(c.Prefix, " \n?#%") {
		t.Errorf("prefix %q", c.Prefix)
	}
	if c.LeaseTTL.Duration < 10*time.Second || c.LeaseTTL.Duration > 24*time.Hour {
		t.Errorf("lease_ttl %v", c.LeaseTTL)
	}
}

func checkExclusive(t *testing.T, e config.Exclusive) {
	t.Helper()
	inTime := e.MountWait.Duration >= 0 && e.MountWait.Duration <= 90*time.Second && e.FenceTimeout.Duration >= time.Second && e.FenceTimeout.Duration <= 80*time.Second
	known := slices.Contains([]string{"", "auto", "manual", "never"}, e.Takeover) && slices.Contains([]string{"", "keep", "cut"}, e.OnSessionLoss) &&
		slices.Contains([]string{"volume", "pool", "host"}, e.FenceCovers)
	withoutCommand := len(e.FenceCommand) == 0 && (e.FenceCovers != "volume" || e.FenceTimeout.Duration != 20*time.Second || len(e.FenceFacts) > 0)
	if !inTime || !known || withoutCommand || len(e.FenceCommand) > 0 && !filepath.IsAbs(e.FenceCommand[0]) || e.AcceptLease && e.Takeover != "auto" && e.Takeover != "" {
		t.Errorf("exclusive %+v", e)
	}
	for _, n := range e.Servers {
		if !n.IsValid() || n.Bits() == 0 || n.Prefix != n.Masked() || n.Addr().IsLoopback() {
			t.Errorf("server %v", n)
		}
	}
}

func checkTTL(t *testing.T, ttl config.Duration) {
	t.Helper()
	if ttl.Duration < 0 || ttl.Duration > 2*36500*24*time.Hour {
		t.Errorf("trash_ttl %v", ttl)
	}
}
