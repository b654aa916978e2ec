package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/dvol/dvold/internal/config"
)

// load loads with these arguments, and no variables but those of the test.
func load(t *testing.T, args ...string) (config.Config, error) {
	t.Helper()
	flags := pflag.NewFlagSet("dvold", pflag.ContinueOnError)
	config.Flags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return config.Load(flags)
}

// mustLoad is load where it must succeed.
func mustLoad(t *testing.T, args ...string) config.Config {
	t.Helper()
	c, err := load(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantMessage fails the test unless err says exactly want.
func wantMessage(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("got error  %v\nwant error %s", err, want)
	}
}

// write makes a configuration file.
func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dvold.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// localPool is what the backend for local pools decodes.
type localPool struct {
	Path         string `yaml:"path"`
	RequireMount bool   `yaml:"require_mount"`
	Shared       bool   `yaml:"shared"`
}

func hostname(t *testing.T) string {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// defaults is what holds if nothing is configured.
func defaults(t *testing.T) config.Config {
	return config.Config{
		Host:         hostname(t),
		StateDir:     "/var/lib/dvol",
		RunDir:       "/run/dvol",
		DockerSocket: "/run/docker/plugins/dvol.sock",
		AdminSocket:  "/run/dvol/admin.sock",
		Log:          config.Log{Level: "info", Format: "text"},
		Coordination: coordinationDefaults(),
		Guard:        guardDefaults(),
		DefaultPool:  "local",
		TrashTTL:     config.Duration{Duration: 24 * time.Hour},
	}
}

func coordinationDefaults() config.Coordination {
	return config.Coordination{
		Type: "embedded", Addresses: []string{"127.0.0.1:8500"}, Prefix: "dvol", LeaseTTL: config.Duration{Duration: 20 * time.Second},
	}
}

func guardDefaults() config.Guard {
	return config.Guard{CutTime: config.Duration{Duration: 5 * time.Second}}
}

// defaultPools is what pools returns for the one that is there by default.
func defaultPools() map[string]localPool {
	return map[string]localPool{"local": {Path: "/var/lib/dvol/pools/local"}}
}

// compare compares all of got but File, and of the pools those of type local.
func compare(t *testing.T, got, want config.Config, wantPools map[string]localPool) {
	t.Helper()
	gotPools := make(map[string]localPool)
	for name, p := range got.Pools {
		if p.Type != "local" {
			continue
		}
		var l localPool
		if err := p.Decode(&l); err != nil {
			t.Errorf("pool %s: %v", name, err)
		}
		gotPools[name] = l
	}
	if !reflect.DeepEqual(gotPools, wantPools) {
		t.Errorf("got pools  %+v\nwant pools %+v", gotPools, wantPools)
	}
	got.Pools, got.File, want.Pools = nil, "", nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestGoodFiles(t *testing.T) {
	everything := config.Config{
		Host:         "node1.example.com",
		StateDir:     "/srv/dvol",
		RunDir:       "/srv/run",
		DockerSocket: "/tmp/docker.sock",
		AdminSocket:  "/tmp/admin.sock",
		Log:          config.Log{Level: "debug", Format: "json"},
		Coordination: coordinationDefaults(),
		Guard: config.Guard{
			CutTime: config.Duration{Duration: 1500 * time.Millisecond}, RebootCommand: "/usr/sbin/fence-me", Watchdog: "/dev/watchdog1",
		},
		DefaultPool: "fast",
		TrashTTL:    config.Duration{Duration: 36 * time.Hour},
	}
	onePool, windows := defaults(t), defaults(t)
	onePool.Host, onePool.DefaultPool = "123", "gv0"
	windows.Host, windows.TrashTTL = "node1", config.Duration{}
	consul, consulText := defaults(t), defaults(t)
	consul.Coordination = config.Coordination{
		Type: "consul", Addresses: []string{"node1:8500", "https://[::1]:8501", "unix:///run//consul.sock"}, Prefix: "prod/dvol.1",
		TokenFile: "/etc/dvol/token", LeaseTTL: config.Duration{Duration: 90 * time.Second},
		CAFile: "/etc/dvol/ca.pem", CertFile: "/etc/dvol/cert.pem", KeyFile: "/etc/dvol/key.pem", ServerName: "consul.example.com",
	}
	consulText.Coordination.Type, consulText.Coordination.LeaseTTL.Duration = "consul", 24*time.Hour
	consulText.Coordination.Addresses = []string{"node1:8500", "http://node2:8500"}
	exclusive := defaults(t)
	exclusive.DefaultPool = "own"
	exclusivePools := map[string]localPool{"own": {}, "none": {}, "nulls": {}, "nas": {Path: "/srv/nas"}, "lease": {}}
	cases := map[string]struct {
		config config.Config
		pools  map[string]localPool
	}{
		"consul":      {consul, defaultPools()},
		"consul_text": {consulText, defaultPools()},
		"empty":       {defaults(t), defaultPools()},
		"comments":    {defaults(t), defaultPools()},
		"nulls":       {defaults(t), defaultPools()},
		"all":         {everything, map[string]localPool{"Fast": {Path: "/srv/Fast"}, "fast": {Path: "/srv/fast", RequireMount: true}}},
		"one_pool":    {onePool, map[string]localPool{"gv0": {Path: "/mnt/gv0"}}},
		"windows":     {windows, defaultPools()},
		"exclusive":   {exclusive, exclusivePools},
	}
	eachFile(t, "good", func(t *testing.T, name, path string) {
		want, ok := cases[name]
		if !ok {
			t.Fatal("no values are expected of this file")
		}
		got := mustLoad(t, "--config", path)
		if got.File != path {
			t.Errorf("got file %s, want %s", got.File, path)
		}
		compare(t, got, want.config, want.pools)
		delete(cases, name)
	})
	for name := range cases {
		t.Errorf("%s.good.yaml is missing", name)
	}
}

// eachFile runs a test for each testdata/*.<kind>.yaml.
func eachFile(t *testing.T, kind string, run func(t *testing.T, name, path string)) {
	t.Helper()
	suffix := "." + kind + ".yaml"
	paths, err := filepath.Glob(filepath.Join("testdata", "*"+suffix))
	if err != nil || len(paths) == 0 {
		t.Fatalf("files: %v, %v", paths, err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), suffix)
		t.Run(name, func(t *testing.T) { run(t, name, path) })
	}
}

func TestPoolTrashTTL(t *testing.T) {
	pools := mustLoad(t, "--config", "testdata/all.good.yaml").Pools
	if got := pools["Fast"].TrashTTL; got == nil || got.Duration != 0 {
		t.Errorf("Fast: got %v, want 0", got)
	}
	if got := pools["fast"].TrashTTL; got == nil || got.Duration != 7*24*time.Hour {
		t.Errorf("fast: got %v, want 7 days", got)
	}
	if got := pools["x-1_"].TrashTTL; got != nil {
		t.Errorf("x-1_: got %v, want nil", got)
	}
}

func TestNoFile(t *testing.T) {
	if _, err := os.Stat(config.DefaultFile); err == nil {
		t.Skip("this machine has a " + config.DefaultFile)
	}
	got := mustLoad(t)
	if got.File != "" {
		t.Errorf("got file %q", got.File)
	}
	compare(t, got, defaults(t), defaultPools())
	want := defaults(t)
	want.StateDir = "/srv/dvol"
	compare(t, mustLoad(t, "--state-dir", "/srv/dvol"), want, map[string]localPool{"local": {Path: "/srv/dvol/pools/local"}})
}

func TestNamedFileMustExist(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.yaml")
	want := "read the configuration: open " + missing + ": no such file or directory"
	_, err := load(t, "--config", missing)
	wantMessage(t, err, want)
	t.Setenv("DVOL_CONFIG", missing)
	_, err = load(t)
	wantMessage(t, err, want)
	compare(t, mustLoad(t, "--config", "testdata/empty.good.yaml"), defaults(t), defaultPools())
}

func TestDurations(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "0d": 0, "90s": 90 * time.Second, "1h30m": 90 * time.Minute, "7d": 7 * day,
		"1d12h": 36 * time.Hour, "1.5h": 90 * time.Minute, "36500d": 36500 * day,
	} {
		var d config.Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || d.Duration != want {
			t.Errorf("%s: got %v, %v, want %v", text, d, err, want)
		}
	}
	for _, text := range []string{"", " ", "d", "7", "7D", "-1h", "-1d", "1d-1h", "1.5d", "1h1d", "36501d", "9999999h", "99999999999999999999d", "1w", "7d\n"} {
		d := config.Duration{Duration: 5}
		if err := d.UnmarshalText([]byte(text)); err == nil || d.Duration != 5 {
			t.Errorf("%q: got %v, %v, want an error and no change", text, d, err)
		}
	}
}
