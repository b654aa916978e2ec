package cluster_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

// All of Consul's data is lost, then an old snapshot of it restored. What lies
// in the pools brings everything back.
func TestConsulLosesItsData(t *testing.T) {
	c := ownCluster(t, 2, quorum)
	h1, h2 := c.h(1), c.h(2)
	h1.start("box", beat, "used:/data")
	h2.start("box", idle, "used:/data", "theirs:/other")
	h1.docker("volume", "create", "-d", "dvol", "--label", "team=blue", "-o", "mode=0750", "kept")
	h1.sh("kept", "echo precious >/data/file")
	h1.create("mine", "pool=own")
	h1.create("trashed")
	h2.docker("volume", "rm", "trashed")
	h1.must(os.Mkdir(c.Path("shared/data/old"), 0o755))
	h1.create("adopted", "adopt=old")
	snapshot := c.snapshot()
	h1.sh("later", "echo 1 >/data/file") // the snapshot has not heard of it
	h2.sh("later", "cat /data/file")
	h1.create("unseen") // nor has h2

	for _, s := range c.Servers() {
		h1.must(s.Consul.Kill())
		h1.must(os.RemoveAll(s.Path("consul")))
	}
	h1.must(c.StartConsul(h1.ctx))
	c.distrusted("the cluster's records are gone")
	c.mended()
	h1.dvold("volume", "rm", "trashed") // which c.mended took out of the trash
	h2.dvold("volume", "rm", "adopted")

	c.restore(snapshot)
	c.distrusted("went back in time")
	// The snapshot is older than the removal of these two.
	c.mended()
	c.wantNoGap("used")
}

// distrusted checks that all hosts have noticed what happened to the records,
// and what they do until an operator has mended them.
func (c *cluster) distrusted(words string) {
	c.t.Helper()
	for _, h := range c.hosts {
		h.eventually("cluster show", func() error {
			if s := ask[show](h, "cluster", "show"); !strings.Contains(s.Problem, words) {
				return fmt.Errorf("it says %q, want %q", s.Problem, words)
			}
			return nil
		})
		if !strings.Contains(h.dvold("cluster", "show"), words) {
			c.t.Errorf("the table of cluster show on %s does not say %q", h.Name(), words)
		}
		for _, name := range []string{"used", "later"} {
			h.docker("volume", "inspect", name)
			h.sh(name, "true")
		}
		h.dockerFails([]string{words}, "volume", "create", "-d", "dvol", "more")
		h.dockerFails([]string{words}, "volume", "rm", "later")
	}
	want(c.t, "label", c.h(1).label("kept"), "blue")
	want(c.t, "content", c.h(1).sh("kept", "cat /data/file"), "precious")
	if !c.h(1).listed("kept") || !c.h(1).listed("later") {
		c.t.Error("docker volume ls on h1 forgot volumes")
	}
	c.wantBeating("used")
}

// mended follows docs/cluster.md, and checks that everything is back.
func (c *cluster) mended() {
	c.t.Helper()
	h1, h2 := c.h(1), c.h(2)
	found := make(map[string]string)
	// One of h1's pools has never been used, and is not there: the others are.
	h1.dvoldFails([]string{"extra"}, "pool", "scan", "--import")
	for _, f := range ask[findings](h2, "pool", "scan", "--import", "data").Findings {
		found[f.Name] = f.State
	}
	c.t.Logf("found: %v", found)
	h2.dvold("cluster", "accept")
	for _, h := range c.hosts {
		h.wantBelief()
		h.wantHolders("used", "h1", "h2")
		for _, name := range []string{"used", "kept", "mine", "later", "unseen", "adopted"} {
			if !h.listed(name) {
				c.t.Errorf("%s does not list %s", h.Name(), name)
			}
		}
		want(c.t, "content", h.sh("kept", "cat /data/file"), "precious")
		want(c.t, "content", h.sh("later", "cat /data/file"), "1")
	}
	want(c.t, "label", h1.label("kept"), "blue")
	want(c.t, "mode", h1.docker("volume", "inspect", "kept", "--format", "{{.Status.options.mode}}"), "0750")
	want(c.t, "home", h2.inspect("mine").Home, "h1")
	h1.dockerFails([]string{`"h2"`, "stop its containers there"}, "volume", "rm", "theirs")
	h2.dvold("trash", "restore", "trashed")
	h1.sh("trashed", "true")
	h1.create("fresh")
	h2.docker("volume", "rm", "fresh")
}

// consul asks a server's Consul.
func (c *cluster) consul(s *lab.Server, method, path string, body []byte) []byte {
	c.t.Helper()
	text, err := s.AskConsul(c.t.Context(), method, path, body)
	if err != nil {
		c.t.Fatal(err)
	}
	return text
}

// snapshot is all of Consul's data.
func (c *cluster) snapshot() []byte {
	c.t.Helper()
	return c.consul(c.Servers()[0], http.MethodGet, "snapshot", nil)
}

// restore replaces all of Consul's data.
func (c *cluster) restore(snapshot []byte) {
	c.t.Helper()
	c.consul(c.Servers()[0], http.MethodPut, "snapshot", snapshot)
}
