package config_test

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/dvol/dvold/internal/config"
)

const sample = "../../docs/dvold.yaml"

// switchedOn returns the sample with all of its settings switched on, and those
// of Consul with Consul.
func switchedOn(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`(?m)^( *)#(\w+:)`).ReplaceAllString(string(content), "$1$2")
	return strings.Replace(all, "type: embedded", "type: consul", 1)
}

// What the sample has switched on is what holds without any file.
func TestSampleIsTheDefault(t *testing.T) {
	compare(t, mustLoad(t, "--config", sample), defaults(t), defaultPools())
}

func TestSampleSwitchedOn(t *testing.T) {
	c := mustLoad(t, "--config", write(t, switchedOn(t)))
	if c.Host != "node1" {
		t.Errorf("got host %s, want node1", c.Host)
	}
	wantCoordination := config.Coordination{
		Type: "consul", Addresses: []string{"https://127.0.0.1:8501"}, Prefix: "dvol", TokenFile: "/etc/dvol/consul.token", LeaseTTL: config.Duration{Duration: 20 * time.Second},
		CAFile: "/etc/dvol/consul-ca.pem", CertFile: "/etc/dvol/consul-cert.pem", KeyFile: "/etc/dvol/consul-key.pem", ServerName: "server.dc1.consul",
	}
	if !reflect.DeepEqual(c.Coordination, wantCoordination) {
		t.Errorf("got coordination %+v, want %+v", c.Coordination, wantCoordination)
	}
	wantGuard := config.Guard{CutTime: config.Duration{Duration: 5 * time.Second}, RebootCommand: "/usr/local/sbin/reboot-now", Watchdog: "/dev/watchdog"}
	if c.Guard != wantGuard {
		t.Errorf("got guard %+v, want %+v", c.Guard, wantGuard)
	}
	if got := c.Pools["local"].TrashTTL; got == nil || got.Duration != 7*24*time.Hour {
		t.Errorf("got trash_ttl %v of the pool, want 7 days", got)
	}
}

// The section of the sample shows what is possible, not what is wise.
func TestSampleExclusive(t *testing.T) {
	want := exclusiveDefaults()
	if got := mustLoad(t, "--config", sample).Pools["local"].Exclusive; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want the default %+v", got, want)
	}
	want.Takeover, want.OnSessionLoss, want.FenceCommand = "auto", "keep", []string{"/usr/local/sbin/fence-storage", "--quiet"}
	want.FenceFacts, want.Servers = map[string]string{"ipmi": "10.0.0.7"}, networks("10.0.0.1/32", "10.0.1.0/24", "fd00::/64")
	if got := mustLoad(t, "--config", write(t, switchedOn(t))).Pools["local"].Exclusive; !reflect.DeepEqual(got, want) {
		t.Errorf("switched on: got %+v, want %+v", got, want)
	}
}

// Each key of the configuration is in the sample.
func TestSampleIsComplete(t *testing.T) {
	var content map[string]any
	if err := yaml.Unmarshal([]byte(switchedOn(t)), &content); err != nil {
		t.Fatal(err)
	}
	pools, ok := content["pools"].(map[string]any)
	if !ok {
		t.Fatalf("pools: got %v", content["pools"])
	}
	pool, ok := pools["local"].(map[string]any)
	if !ok {
		t.Fatalf("pools.local: got %v", pools["local"])
	}
	exclusive, ok := pool["exclusive"].(map[string]any)
	if !ok {
		t.Fatalf("pools.local.exclusive: got %v", pool["exclusive"])
	}
	exclusive["fence_facts"] = nil // their names are the operator's
	delete(content, "pools")
	inConfig := slices.DeleteFunc(keysOf(reflect.TypeFor[config.Config](), ""), func(key string) bool { return key == "pools" })
	for what, c := range map[string]struct{ got, want []string }{
		"settings":  {keysIn(content, ""), inConfig},
		"of a pool": {keysIn(pool, ""), append(keysOf(reflect.TypeFor[config.Pool](), ""), keysOf(reflect.TypeFor[localPool](), "")...)},
	} {
		slices.Sort(c.got)
		slices.Sort(c.want)
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: the sample has %q, the configuration %q", what, c.got, c.want)
		}
	}
}

// keysOf returns the names that yaml gives to the fields of t.
func keysOf(t reflect.Type, prefix string) []string {
	var keys []string
	for field := range t.Fields() {
		name := field.Tag.Get("yaml")
		switch {
		case name == "" || name == "-":
		case field.Type.Kind() == reflect.Struct && field.Type != reflect.TypeFor[config.Duration]():
			keys = append(keys, keysOf(field.Type, prefix+name+".")...)
		default:
			keys = append(keys, prefix+name)
		}
	}
	return keys
}

// keysIn returns the keys of a decoded mapping.
func keysIn(m map[string]any, prefix string) []string {
	var keys []string
	for name, value := range m {
		if section, ok := value.(map[string]any); ok {
			keys = append(keys, keysIn(section, prefix+name+".")...)
		} else {
			keys = append(keys, prefix+name)
		}
	}
	return keys
}
