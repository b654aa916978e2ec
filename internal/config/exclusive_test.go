package config_test

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/config"
)

func exclusiveDefaults() config.Exclusive {
	return config.Exclusive{MountWait: config.Duration{Duration: 30 * time.Second}, FenceTimeout: config.Duration{Duration: 20 * time.Second}, FenceCovers: "volume"}
}

func networks(texts ...string) (all []config.Network) {
	for _, text := range texts {
		all = append(all, config.Network{Prefix: netip.MustParsePrefix(text)})
	}
	return all
}

func TestExclusive(t *testing.T) {
	nas, lease := exclusiveDefaults(), exclusiveDefaults()
	nas.Takeover, nas.OnSessionLoss, nas.MountWait.Duration = "auto", "keep", 0
	nas.FenceCommand, nas.FenceTimeout.Duration, nas.FenceCovers = []string{"/usr/local/sbin//fence", "--port", "7", "", "a b"}, 80*time.Second, "host"
	nas.FenceFacts = map[string]string{"ipmi": "10.0.0.7", "port": "7", "note": ""}
	nas.Servers = networks("10.0.0.1/32", "10.0.1.0/24", "fd00::/64", "2001:db8::1/128")
	lease.Takeover, lease.OnSessionLoss, lease.MountWait.Duration, lease.AcceptLease = "auto", "cut", 90*time.Second, true

	pools := mustLoad(t, "--config", "testdata/exclusive.good.yaml").Pools
	for name, want := range map[string]config.Exclusive{"own": exclusiveDefaults(), "none": exclusiveDefaults(), "nulls": exclusiveDefaults(), "nas": nas, "lease": lease} {
		if got := pools[name].Exclusive; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got  %+v\nwant %+v", name, got, want)
		}
	}
	if got := mustLoad(t, "--config", "testdata/empty.good.yaml").Pools["local"].Exclusive; !reflect.DeepEqual(got, exclusiveDefaults()) {
		t.Errorf("the default pool: got %+v", got)
	}
}

func TestNetworks(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.1": "10.0.0.1/32", "10.0.0.1/32": "10.0.0.1/32", "10.0.0.0/8": "10.0.0.0/8", "0.0.0.0/1": "", "128.0.0.0/1": "128.0.0.0/1",
		"fd00::1": "fd00::1/128", "FD00::/64": "fd00::/64", "fe80::/10": "fe80::/10",
		"": "", " 10.0.0.1": "", "10.0.0.1 ": "", "nas1": "", "10.0.0.1:2049": "", "[fd00::1]": "", "10.0.0": "", "10.0.0.1/33": "", "10.0.0.1/024": "",
		"10.0.0.1/24": "", "fd00::1/64": "", "fe80::1%eth0": "", "fe80::%eth0/64": "", "::ffff:10.0.0.1": "", "::ffff:10.0.0.0/120": "",
		"0.0.0.0/0": "", "::/0": "", "127.0.0.1": "", "127.0.0.0/8": "", "::1": "", "::/64": "",
	} {
		var got config.Network
		err := got.UnmarshalText([]byte(text))
		if (err == nil) != (want != "") || err == nil && got.String() != want || err != nil && got != (config.Network{}) {
			t.Errorf("%q: got %v, %v, want %q", text, got, err, want)
		}
	}
}
