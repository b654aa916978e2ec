package lab_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// gluster starts hosts with GlusterFS nodes, and nothing else on them.
func gluster(t *testing.T, hosts int) *lab.Cluster {
	t.Helper()
	c := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: hosts, Gluster: true})
	check(t, c.StartGluster(t.Context()))
	return c
}

// mountGluster mounts the volume at /mnt of a host.
func mountGluster(t *testing.T, h *lab.Host) {
	t.Helper()
	run(t, h, "mount", "-t", "tmpfs", "tmpfs", "/mnt") // /mnt is this machine's
	run(t, h, "glusterfs", "--process-name=fuse", "--volfile-id="+lab.GlusterVolume, "--volfile-server=g1", "--volfile-server=g2",
		"--volfile-server=g3", "/mnt")
	eventually(t, "the volume at /mnt", func() bool {
		out, err := h.Exec(t.Context(), "stat", "-f", "-c", "%T", "/mnt")
		return err == nil && out == "fuseblk"
	})
}

// bricks are what the bricks have of a file of the volume.
func bricks(t *testing.T, c *lab.Cluster, name string) (all []string) {
	t.Helper()
	for _, n := range c.Gluster().Nodes() {
		text, err := os.ReadFile(n.Brick(name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		all = append(all, strings.TrimSpace(string(text)))
	}
	return all
}

// Writers outlive the end of a brick, of a node's programs and of a node, one
// after the other; what they missed is healed.
func TestGlusterNodesEnd(t *testing.T) {
	t.Parallel()
	c := gluster(t, 2)
	h1, h2, g := c.Host(1), c.Host(2), c.Gluster()
	mountGluster(t, h1)
	mountGluster(t, h2)
	ctx := t.Context()
	g3 := g.Node(3)
	for _, test := range []struct {
		what         string
		end, restart func() error
	}{
		{"brick", func() error { return g3.KillBrick(ctx) }, func() error { return g.Start(ctx, g3) }},
		{"programs", func() error { return g.Kill(g3) }, func() error { return g.Start(ctx, g3) }},
		{"machine", g3.Kill, func() error { return errors.Join(g3.Boot(ctx), g.Start(ctx, g3)) }},
		{"frozen", g3.Freeze, func() error { return errors.Join(g3.Thaw(), g.Start(ctx, g3)) }},
	} {
		t.Log(test.what)
		check(t, test.end())
		if pid, err := g3.BrickPID(); test.what != "frozen" && (pid != 0 || err != nil) {
			t.Errorf("%s: the brick is process %d (%v)", test.what, pid, err)
		}
		began := time.Now()
		run(t, h1, "sh", "-c", "echo "+test.what+" >/mnt/file")
		t.Logf("%s: a write took %v", test.what, time.Since(began).Round(time.Millisecond))
		eventually(t, "the other host reads it", func() bool { return run(t, h2, "cat", "/mnt/file") == test.what })
		check(t, test.restart())
		if pid, err := g3.BrickPID(); pid == 0 || err != nil {
			t.Errorf("%s: the brick is process %d (%v)", test.what, pid, err)
		}
		began = time.Now()
		eventually(t, "the brick is healed", func() bool { return bricks(t, c, "file")[2] == test.what })
		t.Logf("%s: healed in %v", test.what, time.Since(began).Round(time.Millisecond))
	}
	// Again is fine.
	check(t, g.Kill(g3))
	check(t, g.Kill(g3))
	if err := g3.KillBrick(ctx); err == nil {
		t.Error("a brick that has ended was killed")
	}
	check(t, g.Kill(g.Nodes()...))
	if out, err := g.Exec(ctx, "volume", "list"); err == nil {
		t.Errorf("gluster without a glusterd: %s", out)
	}
	check(t, c.StartGluster(ctx))
	check(t, c.StartGluster(ctx))
	eventually(t, "the file after all were down", func() bool {
		out, err := h1.Exec(ctx, "cat", "/mnt/file")
		return err == nil && out == "frozen"
	})
}

// The program for management finds a node that answers.
func TestGlusterManagement(t *testing.T) {
	t.Parallel()
	c := gluster(t, 1)
	h, g := c.Host(1), c.Gluster()
	ctx := t.Context()
	manage := func(args ...string) (string, error) {
		argv := append([]string{"env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", lab.GlusterManagement, "--mode=script"}, args...)
		return h.Exec(ctx, argv...)
	}
	if out, err := manage("volume", "create", "x y", "g1:/'$(false)"); err == nil || strings.Contains(err.Error(), "usage") {
		t.Errorf("a command that is wrong: %s (%v)", out, err)
	}
	g1, g2 := g.Node(1), g.Node(2)
	for _, test := range []struct {
		what      string
		end, mend func() error
	}{
		{"all are up", func() error { return nil }, func() error { return nil }},
		{"one without glusterd", func() error { return g.Kill(g1) }, func() error { return g.Start(ctx, g1) }},
		{"one with a frozen glusterd", g1.Glusterd.Freeze, g1.Glusterd.Thaw},
		{"one frozen, one down", func() error { return errors.Join(g1.Freeze(), g2.Kill()) },
			func() error { return errors.Join(g1.Thaw(), g2.Boot(ctx), g.Start(ctx, g2)) }},
	} {
		check(t, test.end())
		began := time.Now()
		out, err := manage("volume", "info", lab.GlusterVolume)
		took := time.Since(began)
		t.Logf("%s: %v", test.what, took.Round(time.Millisecond))
		if err != nil || !strings.Contains(out, "Number of Bricks: 1 x 3 = 3") || took > 20*time.Second {
			t.Errorf("%s: it says, after %v: %s (%v)", test.what, took, out, err)
		}
		check(t, test.mend())
	}
	check(t, h.Cut(ctx, lab.Storage))
	if out, err := manage("volume", "list"); err == nil {
		t.Errorf("a host that is cut off: %s", out)
	}
	check(t, h.Heal(ctx))
	for _, m := range c.Machines() {
		if m.Name() != "switch" {
			check(t, m.Cut(ctx, lab.Storage)) // each from the nodes
			check(t, m.Heal(ctx))
		}
	}
}

// Nothing is left of a cluster whose hosts wait for nodes that are gone, and this
// machine's own directories are as before.
func TestCloseWithHungGluster(t *testing.T) {
	t.Parallel()
	before := glusterFiles(t)
	c := gluster(t, 1)
	h := c.Host(1)
	mountGluster(t, h)
	check(t, h.Cut(t.Context(), lab.Storage))
	check(t, c.Gluster().Node(2).Freeze())
	waits := make(chan error, 1)
	go func() {
		_, err := h.Exec(t.Context(), "sh", "-c", "while :; do echo >>/mnt/file; done")
		waits <- err
	}()
	if len(mountTables(c, c.Gluster().Node(1).Machine)) == 0 {
		t.Error("nobody has the mounts of g1 while it is up")
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
	if after := glusterFiles(t); after != before {
		t.Errorf("this machine has files of GlusterFS %s, had %s", after, before)
	}
}

// glusterFiles are this machine's own.
func glusterFiles(t *testing.T) string {
	t.Helper()
	var all []string
	for _, dir := range []string{"/var/lib/glusterd", "/var/log/glusterfs", "/run/gluster"} {
		files, err := filepath.Glob(dir + "/*")
		check(t, err)
		all = append(all, files...)
	}
	return strings.Join(all, " ")
}
