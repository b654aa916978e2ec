package nfs

import (
	"net/netip"
	"testing"
)

func TestMountData(t *testing.T) {
	four := way{server: netip.MustParseAddr("10.0.0.1"), client: netip.MustParseAddr("10.0.0.7")}
	six := way{server: netip.MustParseAddr("fd00::1"), client: netip.MustParseAddr("fd00::7")}
	for _, test := range []struct {
		name    string
		change  func(*Config)
		version string
		way     way
		own     bool
		want    string
	}{
		{"defaults", func(*Config) {}, "4.2", four, false,
			"vers=4.2,proto=tcp,port=2049,sec=sys,hard,addr=10.0.0.1"},
		{"own", func(*Config) {}, "4.1", four, true,
			"vers=4.1,proto=tcp,port=2049,sec=sys,hard,nosharecache,addr=10.0.0.1"},
		{"called back", func(*Config) {}, "4.0", four, false,
			"vers=4.0,proto=tcp,port=2049,sec=sys,hard,addr=10.0.0.1,clientaddr=10.0.0.7"},
		{"IP version 6", func(*Config) {}, "4.0", six, false,
			"vers=4.0,proto=tcp6,port=2049,sec=sys,hard,addr=fd00::1,clientaddr=fd00::7"},
		{"soft", func(c *Config) { c.Options = []string{"soft", "timeo=50", "retrans=2"} }, "4.2", four, false,
			"vers=4.2,proto=tcp,port=2049,sec=sys,soft,timeo=50,retrans=2,addr=10.0.0.1"},
		{"hard said", func(c *Config) { c.Options = []string{"nconnect=4", "hard"} }, "4.2", four, false,
			"vers=4.2,proto=tcp,port=2049,sec=sys,nconnect=4,hard,addr=10.0.0.1"},
		{"Kerberos, port", func(c *Config) { c.Sec, c.Port = "krb5p", 12049 }, "4.2", four, false,
			"vers=4.2,proto=tcp,port=12049,sec=krb5p,hard,addr=10.0.0.1"},
		{"version 3", func(*Config) {}, "3", four, false,
			"vers=3,proto=tcp,port=2049,sec=sys,hard,mountvers=3,mountproto=tcp,addr=10.0.0.1"},
		{"version 3, own", func(c *Config) { c.Options = []string{"nolock", "mountport=20048", "mountproto=udp"} }, "3", four, true,
			"vers=3,proto=tcp,port=2049,sec=sys,hard,nolock,mountport=20048,mountproto=udp,mountvers=3,nosharecache,addr=10.0.0.1"},
	} {
		c := DefaultConfig()
		test.change(&c)
		if got := mountData(c, test.version, test.way, test.own); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.name, got, test.want)
		}
	}
}
