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

// ceph starts hosts with nodes of Ceph, and nothing else on them. That is ten daemons,
// and much for them to do: these tests run one after the other, and before all that
// are parallel.
func ceph(t *testing.T, hosts int) *lab.Cluster {
	t.Helper()
	c := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: hosts, Ceph: true})
	began := time.Now()
	check(t, c.StartCeph(t.Context()))
	t.Logf("Ceph started in %v", time.Since(began).Round(time.Millisecond))
	return c
}

// mountCeph mounts the file system at /mnt of a host.
func mountCeph(t *testing.T, h *lab.Host) {
	t.Helper()
	run(t, h, "mount", "-t", "tmpfs", "tmpfs", "/mnt") // /mnt is this machine's
	run(t, h, "ceph-fuse", "--id", lab.CephUser, "/mnt")
}

// Writers of images and files outlive the end of a node's programs and of a node;
// what these have missed they get.
func TestCephNodesEnd(t *testing.T) {
	c := ceph(t, 2)
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
		eventually(t, "all copies are there", func() bool {
			out, err := g.Exec(ctx, "pg", "stat") // 25 pgs: 24 active+clean, 1 peering; …
			all, rest, _ := strings.Cut(out, " pgs: ")
			return err == nil && strings.HasPrefix(rest, all+" active+clean;")
		})
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
func TestCephUsers(t *testing.T) {
	c := ceph(t, 1)
	h := c.Host(1)
	admin := func(args ...string) {
		t.Helper()
		_, err := c.Ceph().Exec(t.Context(), args...)
		check(t, err)
	}
	admin("osd", "pool", "create", "foreign", "8", "8")
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
func TestCephClientIsRefused(t *testing.T) {
	c := ceph(t, 1)
	h := c.Host(1)
	mountCeph(t, h)
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
	if len(sessions) != 1 {
		t.Fatalf("the MDS has %d clients: %s", len(sessions), text)
	}
	client := sessions[0].Entity.Addr
	address := fmt.Sprintf("%s/%d", client.Addr, client.Nonce)
	if !strings.HasPrefix(address, h.Address().String()+":0/") {
		t.Fatalf("the client's address is %q", address)
	}
	run(t, h, "ceph", "--id", lab.CephUser, "osd", "blocklist", "add", address, "1000")
	if out, err := h.Exec(t.Context(), "sh", "-c", "echo after >>/mnt/file && sync -f /mnt/file"); err == nil {
		t.Errorf("it wrote: %s", out)
	}
}

// Nothing is left of a cluster whose hosts wait for nodes that are gone, and this
// machine's own directories are as before.
func TestCloseWithHungCeph(t *testing.T) {
	before := cephFiles(t)
	c := ceph(t, 1)
	h := c.Host(1)
	mountCeph(t, h)
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
	if after := cephFiles(t); after != before {
		t.Errorf("this machine has files of Ceph %s, had %s", after, before)
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
