package lab_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// Nodes of Ceph, and hosts with nothing else on them. That is eleven daemons, and much for
// them to do: one cluster is for all, this test runs before all that are parallel, and
// what it is used for is one after the other, to its end.
func TestCeph(t *testing.T) {
	before := cephFiles(t)
	c := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: 2, Ceph: true})
	began := time.Now()
	check(t, c.StartCeph(t.Context()))
	t.Logf("Ceph started in %v", time.Since(began).Round(time.Millisecond))
	for _, test := range []struct {
		name string
		run  func(*testing.T, *lab.Cluster)
	}{
		{"users", testCephUsers},
		{"nodes end", testCephNodesEnd},
		{"a client is refused", testCephClientIsRefused},
		{"close", testCloseWithHungCeph},
	} {
		if !t.Run(test.name, func(t *testing.T) { test.run(t, c) }) {
			return
		}
	}
	if after := cephFiles(t); after != before {
		t.Errorf("this machine has files of Ceph %s, had %s", after, before)
	}
}

// mountCeph mounts the file system at /mnt of a host.
func mountCeph(t *testing.T, h *lab.Host) {
	t.Helper()
	run(t, h, "mount", "-t", "tmpfs", "tmpfs", "/mnt") // /mnt is this machine's
	run(t, h, "ceph-fuse", "--id", lab.CephUser, "/mnt")
}

// Writers of images and files outlive the end of a node's programs and of a node;
// what these have missed they get.
func testCephNodesEnd(t *testing.T, c *lab.Cluster) {
	h1, h2, g := c.Host(1), c.Host(2), c.Ceph()
	mountCeph(t, h1)
	mountCeph(t, h2)
	ctx := t.Context()
	c1 := g.Node(1)
	for _, test := range []struct {
		what         string
		end, restart func() error
	}{
		{"programs", func() error { return g.Kill(c1) }, func() error { return g.Start(ctx, c1) }},
		{"machine", c1.Kill, func() error { return errors.Join(c1.Boot(ctx), g.Start(ctx, c1)) }},
		{"frozen", c1.Freeze, func() error { return errors.Join(c1.Thaw(), g.Start(ctx, c1)) }},
	} {
		t.Log(test.what)
		check(t, test.end())
		began := time.Now()
		run(t, h1, "sh", "-c", "echo "+test.what+" >/mnt/file && sync -f /mnt/file")
		t.Logf("%s: a write took %v", test.what, time.Since(began).Round(time.Millisecond))
		began = time.Now()
		run(t, h1, "sh", "-c", "echo "+test.what+" | rbd --id dvol import - "+test.what)
		t.Logf("%s: an image took %v", test.what, time.Since(began).Round(time.Millisecond))
		eventually(t, "the other host reads it", func() bool { return run(t, h2, "cat", "/mnt/file") == test.what })
		if got := run(t, h2, "rbd", "--id", lab.CephUser, "export", "--no-progress", test.what, "-"); strings.Trim(got, "\x00\n") != test.what {
			t.Errorf("%s: the other host has the image %q", test.what, got)
		}
		began = time.Now()
		check(t, test.restart())
		t.Logf("%s: restarted in %v", test.what, time.Since(began).Round(time.Millisecond))
		check(t, g.AwaitClean(ctx))
	}
	// Again is fine.
	check(t, g.Kill(c1))
	check(t, g.Kill(c1))
	check(t, g.Kill(g.Nodes()...))
	if out, err := g.Exec(ctx, "health"); err == nil {
		t.Errorf("ceph without a monitor: %s", out)
	}
	check(t, c.StartCeph(ctx))
	check(t, c.StartCeph(ctx))
	eventually(t, "the file after all were down", func() bool {
		out, err := h1.Exec(ctx, "cat", "/mnt/file")
		return err == nil && out == "frozen"
	})
}

// Users may what they need, and no more.
func testCephUsers(t *testing.T, c *lab.Cluster) {
	h := c.Host(1)
	_, err := c.Ceph().Exec(t.Context(), "osd", "pool", "create", "foreign", "8", "8")
	check(t, err)
	as := func(user string, argv ...string) error {
		_, err := h.Exec(t.Context(), append([]string{argv[0], "--id", user}, argv[1:]...)...)
		return err
	}
	const client = "10.99.0.11:0/4711"
	for _, test := range []struct {
		may  bool
		user string
		argv []string
	}{
		{true, lab.CephUser, []string{"rbd", "create", "--size", "16M", "image"}},
		{true, lab.CephUser, []string{"ceph", "osd", "blocklist", "add", client, "100"}},
		{true, lab.CephUser, []string{"ceph", "osd", "blocklist", "ls"}},
		{false, lab.CephUser, []string{"ceph", "osd", "blocklist", "rm", client}},
		{false, lab.CephUser, []string{"ceph", "osd", "blocklist", "add", "10.99.0.11", "100"}},
		{false, lab.CephUser, []string{"rados", "--pool", "foreign", "ls"}},
		{false, lab.CephUser, []string{"ceph", "osd", "pool", "create", "another"}},
		{false, lab.CephUser, []string{"ceph", "auth", "ls"}},
		{false, lab.CephFencer, []string{"rbd", "ls"}},
		{false, lab.CephFencer, []string{"rados", "--pool", lab.CephFileSystem + ".data", "ls"}},
		{true, lab.CephFencer, []string{"ceph", "osd", "blocklist", "rm", client}},
		{true, lab.CephFencer, []string{"ceph", "osd", "blocklist", "add", client, "100"}},
		{false, lab.CephFencer, []string{"ceph", "auth", "ls"}},
		{false, "admin", []string{"ceph", "status"}},
	} {
		if err := as(test.user, test.argv...); (err == nil) != test.may {
			t.Errorf("%s: %q: %v", test.user, test.argv, err)
		}
	}
	for _, m := range c.Machines() {
		if m.Name() != "switch" {
			check(t, m.Cut(t.Context(), lab.Storage)) // each from the nodes
			check(t, m.Heal(t.Context()))
		}
	}
}

// A client that is refused writes no more.
func testCephClientIsRefused(t *testing.T, c *lab.Cluster) {
	h := c.Host(2)
	run(t, h, "sh", "-c", "echo before >/mnt/file && sync -f /mnt/file")
	text, err := c.Ceph().Exec(t.Context(), "tell", "mds.0", "session", "ls", "--format=json")
	check(t, err)
	var sessions []struct {
		Entity struct {
			Addr struct {
				Addr  string
				Nonce uint32
			}
		}
	}
	check(t, json.Unmarshal([]byte(text), &sessions))
	var address string
	for _, s := range sessions {
		if a := s.Entity.Addr; strings.HasPrefix(a.Addr, h.Address().String()+":") {
			address = fmt.Sprintf("%s/%d", a.Addr, a.Nonce)
		}
	}
	if len(sessions) != 2 || address == "" {
		t.Fatalf("the MDS has %d clients, not one of each host: %s", len(sessions), text)
	}
	run(t, h, "ceph", "--id", lab.CephUser, "osd", "blocklist", "add", address, "1000")
	if out, err := h.Exec(t.Context(), "sh", "-c", "echo after >>/mnt/file && sync -f /mnt/file"); err == nil {
		t.Errorf("it wrote: %s", out)
	}
}

// Nothing is left of a cluster whose hosts wait for nodes that are gone.
func testCloseWithHungCeph(t *testing.T, c *lab.Cluster) {
	h := c.Host(1)
	check(t, h.Cut(t.Context(), lab.Storage))
	check(t, c.Ceph().Node(2).Freeze())
	waits := make(chan error, 1)
	go func() {
		_, err := h.Exec(t.Context(), "sh", "-c", "while :; do echo >>/mnt/file; sync -f /mnt; done")
		waits <- err
	}()
	if len(mountTables(c, c.Ceph().Node(1).Machine)) == 0 {
		t.Error("nobody has the mounts of c1 while it is up")
	}
	began := time.Now()
	check(t, c.Close())
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("closing took %v", took)
	}
	<-waits
	var left []string
	for _, m := range c.Machines() {
		left = append(left, mountTables(c, m)...)
	}
	if len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// cephFiles are this machine's own.
func cephFiles(t *testing.T) string {
	t.Helper()
	var all []string
	for _, dir := range []string{"/var/lib/ceph/*", "/var/log/ceph", "/run/ceph", "/etc/ceph"} {
		files, err := filepath.Glob(dir + "/*")
		check(t, err)
		all = append(all, files...)
	}
	return strings.Join(all, " ")
}
