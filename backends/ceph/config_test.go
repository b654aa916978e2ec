package ceph_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/backends/ceph"
)

func TestValidate(t *testing.T) {
	tests := []struct {
		change func(*ceph.Config)
		want   string // begins the error; empty means none
	}{
		{func(*ceph.Config) {}, ""},
		{func(c *ceph.Config) { c.Monitors = []string{"a", "[v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0]"} }, `monitors: "[v2`},
		{func(c *ceph.Config) { c.Monitors = []string{"ceph-1.example.org:6789", "[fd00::1]:3300", "10.0.0.1"} }, ""},
		{func(c *ceph.Config) { c.Monitors = nil }, "monitors: want"},
		{func(c *ceph.Config) { c.Conf = "/etc/ceph/ceph.conf" }, "monitors: conf says"},
		{func(c *ceph.Config) { c.Conf, c.Monitors = "/etc/ceph/ceph.conf", nil }, ""},
		{func(c *ceph.Config) { c.Conf, c.Monitors = "ceph.conf", nil }, "conf: "},
		{func(c *ceph.Config) { c.Monitors = []string{"a b"} }, "monitors: "},
		{func(c *ceph.Config) { c.Monitors = []string{""} }, "monitors: "},
		{func(c *ceph.Config) { c.User = "" }, "user: "},
		{func(c *ceph.Config) { c.User = "client.dvol" }, `user: want "dvol"`},
		{func(c *ceph.Config) { c.User = "a,b" }, "user: "},
		{func(c *ceph.Config) { c.Keyring = "keyring" }, "keyring: "},
		{func(c *ceph.Config) { c.ConnectTimeout = 0 }, "connect_timeout: "},
		{func(c *ceph.Config) { c.CallTimeout = time.Hour }, "call_timeout: "},
	}
	for i, test := range tests {
		c := ceph.DefaultConfig()
		c.Monitors = []string{"10.0.0.1"}
		test.change(&c)
		err := c.Validate()
		if err == nil != (test.want == "") || err != nil && !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%d: got %v, want %q", i, err, test.want)
		}
	}
}

// What a program is started with says where the key is, and no more.
func TestArguments(t *testing.T) {
	c := ceph.DefaultConfig()
	c.Monitors = []string{"a", "b"}
	want := []string{"--id", "dvol", "--keyring", "/etc/ceph/ceph.client.dvol.keyring", "--no-config-file", "-m", "a,b"}
	if got := c.Arguments(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	c.Conf, c.Keyring = "/x/ceph.conf", "/x/key"
	want = []string{"--id", "dvol", "--keyring", "/x/key", "--conf", "/x/ceph.conf"}
	if got := c.Arguments(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
