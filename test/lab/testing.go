package lab

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/dvol/dvold/coordination/consul/consultest"
)

// Require skips the test if this machine can't run hosts; but if "docker" is
// among the comma-separated words of DVOLD_TEST_REQUIRE, the test fails.
func Require(t testing.TB) {
	t.Helper()
	need(t, Missing())
}

// need skips the test, or fails it, unless nothing is missing.
func need(t testing.TB, missing string) {
	t.Helper()
	if missing == "" {
		return
	}
	if required("docker") {
		t.Fatalf("test hosts are required, but can't run here: %s", missing)
	}
	t.Skipf("test hosts can't run here: %s", missing)
}

// ForTest boots a host that is closed when the test ends, and shows its logs if
// the test failed. It skips or fails as Require does.
func ForTest(t testing.TB, o Options) *Host {
	t.Helper()
	Require(t)
	h, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	h.LogIfFailed(t)
	return h
}

// LogIfFailed shows what the host's daemons log from now on if the test fails.
func (h *Host) LogIfFailed(t testing.TB) { logIfFailed(t, h.daemons) }

func logIfFailed(t testing.TB, daemons []*Daemon) {
	before := make([]int64, len(daemons))
	for i, d := range daemons {
		before[i] = d.logSize()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(logs(daemons, before))
		}
	})
}

// ClusterForTest boots a cluster that is closed when the test ends, and shows
// its logs if the test failed. It starts no daemon, and skips or fails as
// Require does. If there are Consul servers and no binary is named, it is built
// by the script hack/consul/build, in minutes, or taken from its cache.
func ClusterForTest(t testing.TB, o ClusterOptions) *Cluster {
	t.Helper()
	Require(t)
	if o.Storage {
		need(t, MissingStorage())
	}
	if o.Gluster {
		need(t, MissingGluster())
	}
	if o.Ceph {
		need(t, MissingCeph())
	}
	if o.Servers > 0 && o.Consul == "" {
		o.Consul = consultest.Binary(t)
	}
	c, err := NewCluster(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	c.LogIfFailed(t)
	return c
}

// LogIfFailed shows what the cluster's daemons log from now on if the test fails.
func (c *Cluster) LogIfFailed(t testing.TB) {
	var daemons []*Daemon
	for _, m := range c.Machines() {
		daemons = append(daemons, m.daemons...)
	}
	logIfFailed(t, daemons)
}

// required tells whether a word is among those of DVOLD_TEST_REQUIRE.
func required(word string) bool {
	return slices.Contains(strings.Split(os.Getenv("DVOLD_TEST_REQUIRE"), ","), word)
}
