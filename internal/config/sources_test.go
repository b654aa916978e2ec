package config_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/dvol/dvold/internal/config"
)

// Each setting is set in one place after the other, from the weakest to the
// strongest, and each place must win over those before.
func TestPrecedence(t *testing.T) {
	pools := "pools:\n  a: {type: local}\n  b: {type: local}\n  c: {type: local}\n"
	for key, c := range map[string]struct {
		section string // of the file
		get     func(config.Config) string
		values  [3]string // in the file, the environment, a flag
	}{
		"host":           {"", func(c config.Config) string { return c.Host }, [3]string{"n1", "n2", "n3"}},
		"state_dir":      {"", func(c config.Config) string { return c.StateDir }, [3]string{"/1", "/2", "/3"}},
		"run_dir":        {"", func(c config.Config) string { return c.RunDir }, [3]string{"/1", "/2", "/3"}},
		"docker_socket":  {"", func(c config.Config) string { return c.DockerSocket }, [3]string{"/1", "/2", "/3"}},
		"admin_socket":   {"", func(c config.Config) string { return c.AdminSocket }, [3]string{"/1", "/2", "/3"}},
		"level":          {"log", func(c config.Config) string { return c.Log.Level }, [3]string{"debug", "warn", "error"}},
		"format":         {"log", func(c config.Config) string { return c.Log.Format }, [3]string{"json", "text", "json"}},
		"type":           {"coordination", func(c config.Config) string { return c.Coordination.Type }, [3]string{"embedded", "consul", "embedded"}},
		"addresses":      {"coordination", func(c config.Config) string { return strings.Join(c.Coordination.Addresses, " ") }, [3]string{"https://a:1", "https://b:2", "https://c:3"}},
		"prefix":         {"coordination", func(c config.Config) string { return c.Coordination.Prefix }, [3]string{"a", "b", "c"}},
		"token_file":     {"coordination", func(c config.Config) string { return c.Coordination.TokenFile }, [3]string{"/1", "/2", "/3"}},
		"lease_ttl":      {"coordination", func(c config.Config) string { return c.Coordination.LeaseTTL.String() }, [3]string{"1m0s", "2m0s", "3m0s"}},
		"ca_file":        {"coordination", func(c config.Config) string { return c.Coordination.CAFile }, [3]string{"/1", "/2", "/3"}},
		"cert_file":      {"coordination", func(c config.Config) string { return c.Coordination.CertFile }, [3]string{"/1", "/2", "/3"}},
		"key_file":       {"coordination", func(c config.Config) string { return c.Coordination.KeyFile }, [3]string{"/1", "/2", "/3"}},
		"server_name":    {"coordination", func(c config.Config) string { return c.Coordination.ServerName }, [3]string{"a", "b", "c"}},
		"cut_time":       {"guard", func(c config.Config) string { return c.Guard.CutTime.String() }, [3]string{"1s", "2s", "1m0s"}},
		"reboot_command": {"guard", func(c config.Config) string { return c.Guard.RebootCommand }, [3]string{"/1", "/2", "/3"}},
		"watchdog":       {"guard", func(c config.Config) string { return c.Guard.Watchdog }, [3]string{"/1", "/2", "/3"}},
		"default_pool":   {"", func(c config.Config) string { return c.DefaultPool }, [3]string{"a", "b", "c"}},
		"trash_ttl":      {"", func(c config.Config) string { return c.TrashTTL.String() }, [3]string{"1h0m0s", "2h0m0s", "3h0m0s"}},
	} {
		name, line := key, key+": "+c.values[0]+"\n"
		if c.section != "" {
			name, line = c.section+"_"+key, c.section+":\n  "+line
		}
		t.Run(name, func(t *testing.T) {
			content := pools + line
			if key != "default_pool" {
				content += "default_pool: a\n"
			}
			if c.section == "coordination" && key != "type" { // what its other keys need
				content = strings.Replace(content, "coordination:\n", "coordination:\n  type: consul\n", 1)
				args := map[string]string{"addresses": "https://n:1", "cert_file": "/cert", "key_file": "/key"}
				for _, needed := range slices.Sorted(maps.Keys(args)) {
					if needed != key {
						content = strings.Replace(content, "type: consul\n", "type: consul\n  "+needed+": "+args[needed]+"\n", 1)
					}
				}
			}
			args := []string{"--config", write(t, content)}
			if got := c.get(mustLoad(t, args...)); got != c.values[0] {
				t.Errorf("from the file: got %s, want %s", got, c.values[0])
			}
			env := "DVOL_" + strings.ToUpper(name)
			t.Setenv(env, c.values[1])
			if got := c.get(mustLoad(t, args...)); got != c.values[1] {
				t.Errorf("from the environment: got %s, want %s", got, c.values[1])
			}
			flag := "--" + strings.ReplaceAll(name, "_", "-")
			if got := c.get(mustLoad(t, append(args, flag, c.values[2])...)); got != c.values[2] {
				t.Errorf("from the flag: got %s, want %s", got, c.values[2])
			}
			t.Setenv(env, "")
			if got := c.get(mustLoad(t, args...)); got != c.values[0] {
				t.Errorf("with an empty variable: got %s, want %s", got, c.values[0])
			}
		})
	}
}

func TestConfigFlagWinsOverVariable(t *testing.T) {
	t.Setenv("DVOL_CONFIG", write(t, "host: of-the-variable\n"))
	if got := mustLoad(t).Host; got != "of-the-variable" {
		t.Errorf("got host %s", got)
	}
	if got := mustLoad(t, "--config", write(t, "host: of-the-flag\n")).Host; got != "of-the-flag" {
		t.Errorf("got host %s", got)
	}
}

// What names Consul is refused without it, wherever it stands: a cluster that
// silently is none loses data. Defaults are no mention.
func TestConsulIsMeant(t *testing.T) {
	const advice = ": it is of Consul, and coordination.type is embedded: set that to consul, or leave this out"
	empty := []string{"--config", "testdata/empty.good.yaml"}
	t.Setenv("DVOL_COORDINATION_ADDRESSES", "127.0.0.1:8500")
	_, err := load(t, empty...)
	wantMessage(t, err, "DVOL_COORDINATION_ADDRESSES"+advice)
	t.Setenv("DVOL_COORDINATION_ADDRESSES", "")
	mustLoad(t, empty...)
	t.Setenv("DVOL_COORDINATION_TYPE", "consul")
	if got := mustLoad(t, empty...).Coordination; got.Type != "consul" || len(got.Addresses) != 1 {
		t.Errorf("got %+v", got)
	}
	_, err = load(t, "--config", "testdata/consul.good.yaml", "--coordination-type", "embedded")
	wantMessage(t, err, "testdata/consul.good.yaml:4: coordination.addresses"+advice)
}

func TestConsulAddresses(t *testing.T) {
	args := []string{"--config", "testdata/empty.good.yaml", "--coordination-type", "consul", "--coordination-addresses"}
	const syntax = ": want host:port, http://host:port, https://host:port or unix:///path"
	for _, good := range []string{"a:1", "[::1]:8500", "http://10.0.0.1:65535", "https://a.b-c_d:1/", "unix:///run/consul.sock"} {
		if got := mustLoad(t, append(args, good)...).Coordination.Addresses; len(got) != 1 || got[0] != good {
			t.Errorf("%s: got %q", good, got)
		}
	}
	for bad, quoted := range map[string]string{
		"": `""`, "a": `"a"`, ":1": `":1"`, "a:": `"a:"`, "a:0": `"a:0"`, "a:65536": `"a:65536"`, "::1:8500": `"::1:8500"`, "http://a": `"http://a"`,
		"ftp://a:1": `"ftp://a:1"`, "HTTPS://a:1": `"HTTPS://a:1"`, "http://a:1/v1": `"http://a:1/v1"`, "http://u:p@a:1": `"http://u:p@a:1"`,
		"a:1?b": `"a:1?b"`, "a b:1": `"a b:1"`, "a:1,": `""`, ",a:1": `""`, "a:1 b:1": `"a:1 b:1"`,
	} {
		_, err := load(t, append(args, bad)...)
		wantMessage(t, err, "--coordination-addresses: "+quoted+syntax)
	}
	_, err := load(t, append(args, "unix://run/consul.sock")...)
	wantMessage(t, err, `--coordination-addresses: "unix://run/consul.sock": "run/consul.sock" is not an absolute path below /`)
}

func TestConsulPrefixes(t *testing.T) {
	args := []string{"--config", "testdata/empty.good.yaml", "--coordination-type", "consul", "--coordination-prefix"}
	for _, good := range []string{"a", "a/b", "..a", "A-1_.x/y", strings.Repeat("p", 128)} {
		if got := mustLoad(t, append(args, good)...).Coordination.Prefix; got != good {
			t.Errorf("%s: got %q", good, got)
		}
	}
	for _, bad := range []string{"", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "a b", "ä", "a\n", strings.Repeat("p", 129)} {
		if _, err := load(t, append(args, bad)...); err == nil || !strings.Contains(err.Error(), "is not a prefix of keys") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

// A setting may be given where the file has one that is wrong.
func TestWrongValueNamesItsOrigin(t *testing.T) {
	path := write(t, "log: {level: fileish}\n")
	_, err := load(t, "--config", path)
	wantMessage(t, err, path+`:1: log.level: "fileish" is not one of: debug, info, warn, error`)
	t.Setenv("DVOL_LOG_LEVEL", "envish")
	_, err = load(t, "--config", path)
	wantMessage(t, err, `DVOL_LOG_LEVEL: "envish" is not one of: debug, info, warn, error`)
	_, err = load(t, "--config", path, "--log-level", "flagish")
	wantMessage(t, err, `--log-level: "flagish" is not one of: debug, info, warn, error`)
	_, err = load(t, "--config", path, "--log-level", "")
	wantMessage(t, err, `--log-level: "" is not one of: debug, info, warn, error`)
	if got := mustLoad(t, "--config", path, "--log-level", "warn").Log.Level; got != "warn" {
		t.Errorf("got level %s, want warn", got)
	}
}

func TestWrongValues(t *testing.T) {
	empty := []string{"--config", "testdata/empty.good.yaml"}
	for flag, want := range map[string]string{
		"--host=":                 `--host: "" is not a host name: want up to 64 letters, digits, dots, dashes and underscores`,
		"--host=a b":              `--host: "a b" is not a host name: want up to 64 letters, digits, dots, dashes and underscores`,
		"--host=-a":               `--host: "-a" is not a host name: want up to 64 letters, digits, dots, dashes and underscores`,
		"--host=a\n":              `--host: "a\n" is not a host name: want up to 64 letters, digits, dots, dashes and underscores`,
		"--state-dir=":            `--state-dir: "" is not an absolute path below /`,
		"--state-dir=/":           `--state-dir: "/" is not an absolute path below /`,
		"--docker-socket=a":       `--docker-socket: "a" is not an absolute path below /`,
		"--admin-socket=./a":      `--admin-socket: "./a" is not an absolute path below /`,
		"--default-pool=gv0":      `--default-pool: there is no pool "gv0" (there are: local)`,
		"--coordination-type=x":   `--coordination-type: "x" is not one of: embedded, consul`,
		"--coordination-prefix=a": `--coordination-prefix: it is of Consul, and coordination.type is embedded: set that to consul, or leave this out`,
		"--trash-ttl=1w":          `--trash-ttl: "1w"` + validTime,
	} {
		_, err := load(t, append(empty, flag)...)
		wantMessage(t, err, want)
	}
}

func TestUnknownVariable(t *testing.T) {
	valid := " is not a setting (valid: DVOL_ADMIN_SOCKET, DVOL_CONFIG, DVOL_COORDINATION_ADDRESSES, DVOL_COORDINATION_CA_FILE, DVOL_COORDINATION_CERT_FILE, DVOL_COORDINATION_KEY_FILE, DVOL_COORDINATION_LEASE_TTL, DVOL_COORDINATION_PREFIX, DVOL_COORDINATION_SERVER_NAME, DVOL_COORDINATION_TOKEN_FILE, DVOL_COORDINATION_TYPE, DVOL_DEFAULT_POOL, DVOL_DOCKER_SOCKET, DVOL_GUARD_CUT_TIME, DVOL_GUARD_REBOOT_COMMAND, DVOL_GUARD_WATCHDOG, DVOL_HOST, DVOL_LOG_FORMAT, DVOL_LOG_LEVEL, DVOL_RUN_DIR, DVOL_STATE_DIR, DVOL_TRASH_TTL)"
	t.Setenv("DVOLD_TEST", "no setting either, but none of ours")
	mustLoad(t, "--config", "testdata/empty.good.yaml")
	for _, name := range []string{"DVOL_STATEDIR", "DVOL_", "DVOL_host", "DVOL_POOLS"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "")
			_, err := load(t, "--config", "testdata/empty.good.yaml")
			wantMessage(t, err, "environment variable "+name+valid)
		})
	}
}

// A command need not have all the flags.
func TestLoadWithoutFlags(t *testing.T) {
	t.Setenv("DVOL_CONFIG", "testdata/one_pool.good.yaml")
	c, err := config.Load(pflag.NewFlagSet("dvold", pflag.ContinueOnError))
	if err != nil {
		t.Fatal(err)
	}
	if c.Host != "123" || c.DefaultPool != "gv0" {
		t.Errorf("got %+v", c)
	}
}

// Defaults show in the help of each flag.
func TestFlagsSayTheirDefaults(t *testing.T) {
	flags := pflag.NewFlagSet("dvold", pflag.ContinueOnError)
	config.Flags(flags)
	usage := flags.FlagUsages()
	for _, want := range []string{
		"--config file ", config.DefaultFile, "--host name ", "(default the machine's host name)", "--state-dir directory ", "(default /var/lib/dvol)",
		"--docker-socket socket ", "--admin-socket socket ", "--log-level level ", "(default info)", "--log-format format ", "--trash-ttl time ", "(default 24h)",
	} {
		if !strings.Contains(usage, want) {
			t.Errorf("the help lacks %q:\n%s", want, usage)
		}
	}
}

// No variable of whoever runs the tests may reach them.
func TestMain(m *testing.M) {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "DVOL_") {
			if err := os.Unsetenv(name); err != nil {
				panic(err)
			}
		}
	}
	os.Exit(m.Run())
}
