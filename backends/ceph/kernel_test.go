package ceph

import "testing"

func TestKernelMonitors(t *testing.T) {
	for _, test := range []struct {
		monitors     []string
		list, option string
	}{
		{[]string{"10.0.0.1", "10.0.0.2:6789"}, "10.0.0.1,10.0.0.2:6789", ""},
		{[]string{"10.0.0.1:3300"}, "10.0.0.1:3300", "ms_mode=prefer-crc"},
		{[]string{"fd00::1", "[fd00::2]:6789", "[fd00::3]"}, "[fd00::1],[fd00::2]:6789,[fd00::3]", ""},
	} {
		list, option, err := Config{Monitors: test.monitors}.KernelMonitors(t.Context())
		if err != nil || list != test.list || option != test.option {
			t.Errorf("%v: got %q, %q, %v", test.monitors, list, option, err)
		}
	}
	if list, _, err := (Config{Conf: "/etc/ceph/ceph.conf"}).KernelMonitors(t.Context()); err == nil {
		t.Errorf("without monitors: %q", list)
	}
}

func TestKeyOf(t *testing.T) {
	const keyring = "[client.a]\n\tkey = one==\n\tcaps mon = \"allow r\"\n[client.b]\nkey=two\n"
	for user, want := range map[string]string{"client.a": "one==", "client.b": "two", "client.c": ""} {
		if got := keyOf(keyring, user); got != want {
			t.Errorf("%s: got %q, want %q", user, got, want)
		}
	}
}
