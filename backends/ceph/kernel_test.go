package ceph

import "testing"

func TestKernelMonitors(t *testing.T) {
	for _, test := range []struct {
		monitors     []string
		list, option string
	}{
		{[]string{"10.0.0.1", "10.0.0.2:6789"}, "10.0.0.1,10.0.0.2:6789", ""},
		{[]string{"10.0.0.1:3300"}, "10.0.0.1:3300", "ms_mode=prefer-crc"},
		{[]string{"localhost:6789"}, "127.0.0.1:6789", ""},
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

// One monitor is called by its address alone, or with one of its usual ports.
func TestSameMonitor(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"10.0.0.1", "10.0.0.1:6789", true}, {"10.0.0.1:3300", "10.0.0.1:6789", true}, {"10.0.0.1:3300", "10.0.0.1", true},
		{"fd00::1", "[fd00::1]:6789", true}, {"[fd00::1]", "[fd00::1]:3300", true}, {"10.0.0.1", "[::ffff:10.0.0.1]:6789", true},
		{"10.0.0.1:40001", "10.0.0.1:40001", true}, {"10.0.0.1:40001", "10.0.0.1", false}, {"10.0.0.1", "10.0.0.11", false}, {"fd00::1", "[fd00::2]:6789", false},
	} {
		a, okA := ParseMonitor(test.a)
		b, okB := ParseMonitor(test.b)
		if got := SameMonitor(a, b); got != test.want || !okA || !okB {
			t.Errorf("%s and %s: got %t (%t, %t)", test.a, test.b, got, okA, okB)
		}
	}
	if a, ok := ParseMonitor("mon1:6789"); ok {
		t.Errorf("a name is %v", a)
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
