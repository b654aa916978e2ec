//go:build ceph && cgo

package cephfs

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/dvol/dvold/backends"
)

// dump is what a monitor says of two file systems, the second of them the default one,
// with one MDS of the first in a state.
func dump(state string) []byte {
	return fmt.Appendf(nil, `{"default_fscid": 2, "standbys": [{"addrs": {"addrvec": [{"type": "v2", "addr": "10.0.0.9:6800", "nonce": 9}]}}], "filesystems": [
	{"id": 1, "mdsmap": {"fs_name": "a", "in": [0, 1], "info": {
		"gid_1": {"rank": 0, "state": "up:active", "addrs": {"addrvec": [{"type": "v1", "addr": "10.0.0.1:6801", "nonce": 1}]}},
		"gid_2": {"rank": 1, "state": %q}, "gid_3": {"rank": 0, "state": "up:standby-replay"}}}},
	{"id": 2, "mdsmap": {"fs_name": "b", "in": [0], "info": {"gid_4": {"rank": 0, "state": "up:active"}}}}]}`, state)
}

// A file system is asked only if all of its MDS are at work.
func TestParseRanks(t *testing.T) {
	for _, test := range []struct {
		name, state string
		want        []string
	}{
		{"a", "up:active", []string{"a:0", "a:1"}},
		{"a", "up:resolve", nil},
		{"b", "up:resolve", []string{"b:0"}},
		{"", "up:resolve", []string{"b:0"}},
		{"c", "up:active", nil},
	} {
		got, err := parseRanks(dump(test.state), test.name)
		if !slices.Equal(got, test.want) || (err != nil) != (test.want == nil) || err != nil && !errors.Is(err, backends.ErrUnavailable) {
			t.Errorf("%q, %s: got %v, %v, want %v", test.name, test.state, got, err, test.want)
		}
	}
}

func TestParseServers(t *testing.T) {
	for text, want := range map[string]string{
		string(dump("up:active")): "[10.0.0.9 10.0.0.1]",
		`{"mons": [{"public_addrs": {"addrvec": [{"type": "v2", "addr": "10.0.0.1:3300", "nonce": 0}, {"type": "v1", "addr": "[fd00::1]:6789", "nonce": 0}]}}]}`: "[10.0.0.1 fd00::1]",
		`{"osds": [{"osd": 0, "public_addrs": {"addrvec": [{"type": "none", "addr": "0.0.0.0:0", "nonce": 0}]}}], "blocklist": {"10.0.0.7:0/1": "2026"}}`:        "[]",
	} {
		if got, err := parseServers([]byte(text)); err != nil || fmt.Sprint(got) != want {
			t.Errorf("got %v, %v, want %s", got, err, want)
		}
	}
	if _, err := parseServers([]byte(`{"mons": [{"public_addrs": {"addrvec": [{"addr": "ceph-1"}]}}]}`)); err == nil {
		t.Error("an address that is none was taken for one")
	}
}

// What a client has more than it is meant to have is wanted back.
func TestParseWanted(t *testing.T) {
	text := `[{"path": "/docker", "client_caps": [
		{"client_id": 7, "pending": "pAsLsXsFsx", "issued": "pAsLsXsFsx", "wanted": "-", "last_sent": 3},
		{"client_id": 8, "pending": "pAsLsXs", "issued": "pAsLsXsFsx", "wanted": "-", "last_sent": 4}]}, {"path": "/x"}]`
	got, err := parseWanted([]byte(text), "dir")
	if want := []wanted{{8, "dir", 4}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestIsShared(t *testing.T) {
	p := FencingPool{Pool: &Pool{name: "files", dir: "/run/dvol/cephfs/files"}}
	p.config.Cluster.User = "dvol"
	for point, want := range map[string]bool{
		"/run/dvol/cephfs/files/shared.0123abcd":  true,
		"/run/dvol/cephfs/others/shared.0123abcd": false,
		"/run/dvol/cephfs/files/own.0123abcd":     false,
		"/mnt/cephfs":                             false,
		"":                                        false,
	} {
		var s session
		s.Client.Mountpoint, s.Client.User, s.Client.Host = point, "dvol", "another"
		if got := p.isShared(s); got != want {
			t.Errorf("%q: got %t", point, got)
		}
		if s.Client.User = "root"; p.isShared(s) {
			t.Errorf("%q of another user is the pool's", point)
		}
	}
}

// A client that another host of the same name has at the same mountpoint is not this host's.
func TestIsOursAt(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	p := FencingPool{Pool: &Pool{dir: "/run/dvol/cephfs/files"}}
	p.config.Cluster.User = "dvol"
	const mountpoint = "/run/dvol/cephfs/files/own.0123456789abcdef"
	for _, test := range []struct {
		address, host, at string
		want              bool
	}{
		{"127.0.0.1:0", name, mountpoint, true}, {"[::1]:0", name, mountpoint, true},
		{"192.0.2.1:0", name, mountpoint, false}, {"127.0.0.1:0", name + "x", mountpoint, false},
		{"127.0.0.1:0", name, mountpoint + "0", false}, {"", name, mountpoint, false},
	} {
		var s session
		s.Entity.Addr.Addr, s.Client.User, s.Client.Host, s.Client.Mountpoint = test.address, "dvol", test.host, test.at
		if got := p.isOursAt(s, mountpoint); got != test.want {
			t.Errorf("%q of %s at %s: got %t", test.address, test.host, test.at, got)
		}
	}
}
