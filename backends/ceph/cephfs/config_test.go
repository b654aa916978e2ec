package cephfs_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/backends/ceph/cephfs"
)

func TestValidate(t *testing.T) {
	tests := []struct {
		change func(*cephfs.Config)
		want   string // begins the error; empty means none
	}{
		{func(*cephfs.Config) {}, ""},
		{func(c *cephfs.Config) { c.FileSystem, c.Subdir = "cephfs", "/docker/volumes" }, ""},
		{func(c *cephfs.Config) { c.Cluster.Monitors = nil }, "cluster.monitors: "},
		{func(c *cephfs.Config) { c.FileSystem = "a b" }, "filesystem: "},
		{func(c *cephfs.Config) { c.FileSystem = "--x" }, "filesystem: "},
		{func(c *cephfs.Config) { c.Subdir = "a/../b" }, "subdir: "},
		{func(c *cephfs.Config) { c.Subdir = "a\nb" }, "subdir: "},
		{func(c *cephfs.Config) { c.Subdir = "/" }, "subdir: "},
		{func(c *cephfs.Config) { c.FileSystem, c.SubvolumeGroup = "cephfs", "docker-1" }, unless(cephfs.HasLibraries, "subvolume_group: ")},
		{func(c *cephfs.Config) { c.SubvolumeGroup = "docker" }, "subvolume_group: "},
		{func(c *cephfs.Config) { c.FileSystem, c.SubvolumeGroup = "cephfs", "_nogroup" }, "subvolume_group: "},
		{func(c *cephfs.Config) { c.FileSystem, c.SubvolumeGroup = "cephfs", "a/b" }, "subvolume_group: "},
		{func(c *cephfs.Config) { c.FileSystem, c.SubvolumeGroup, c.Subdir = "cephfs", "docker", "x" }, "subvolume_group: "},
		{func(c *cephfs.Config) { c.Client = "kernel" }, ""},
		{func(c *cephfs.Config) { c.Client = "nfs" }, "client: "},
		{func(c *cephfs.Config) {
			c.Client, c.Cluster.Monitors, c.Cluster.Conf = "kernel", nil, "/etc/ceph/ceph.conf"
		}, "client: "},
		{func(c *cephfs.Config) { c.Fencer = "evictor" }, unless(cephfs.HasLibraries, "fencer: ")},
		{func(c *cephfs.Config) { c.Fencer = "client.evictor" }, "fencer: "},
		{func(c *cephfs.Config) { c.FencerKeyring = "/x" }, "fencer_keyring: "},
		{func(c *cephfs.Config) { c.LogDir = "log" }, "log_dir: "},
		{func(c *cephfs.Config) { c.MountTimeout = 0 }, "mount_timeout: "},
		{func(c *cephfs.Config) { c.MountTimeout = time.Hour }, "mount_timeout: "},
		{func(c *cephfs.Config) { c.ClientGrace = -1 }, "client_grace: "},
	}
	for i, test := range tests {
		c := cephfs.DefaultConfig()
		c.Cluster.Monitors = []string{"10.0.0.1"}
		test.change(&c)
		err := c.Validate()
		if err == nil != (test.want == "") || err != nil && !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%d: got %v, want %q", i, err, test.want)
		}
	}
}

func unless(not bool, text string) string {
	if not {
		return ""
	}
	return text
}
