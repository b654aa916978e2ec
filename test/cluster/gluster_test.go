package cluster_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// glusterConfiguration has a pool on GlusterFS that fences, another that can't, and
// one on a directory that nothing cuts off.
const glusterConfiguration = `coordination: {type: consul, lease_ttl: %v}
guard: {reboot_command: ` + lab.RebootCommand + `}
default_pool: gluster
pools:
  gluster:
    {type: gluster, servers: [%s], volume: ` + lab.GlusterVolume + `, subdir: fenced, management: [` + lab.GlusterManagement + `], mount_timeout: %v}
  leased:
    type: gluster
    servers: [%[2]s]
    volume: ` + lab.GlusterVolume + `
    subdir: leased
    mount_timeout: %[3]v
    exclusive: {takeover: auto, on_session_loss: cut, accept_lease: true}
  shared:
    {type: local, path: /shared/shared, shared: true}
`

// mountTimeout is that of the pool gluster.
const mountTimeout = 5 * time.Second

// TestGluster has hosts share volumes on GlusterFS.
func TestGluster(t *testing.T) {
	t.Parallel()
	c := startGluster(t)
	for _, test := range []struct {
		name string
		run  func(*cluster)
	}{
		{"write here, read there", testGlusterWriteHereReadThere},
		{"write on both", testWriteOnBoth},
		{"hand over", func(c *cluster) { c.testHandOver("gluster") }},
		{"migrate", func(c *cluster) { c.testMigrate("gluster") }},
		{"lost record", func(c *cluster) { c.testLostRecord("gluster", "shared") }},
		{"a server ends", testGlusterServerEnds},
		{"all servers end", testGlusterAllServersEnd},
		{"no way to the servers", testGlusterCutOff},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(in(t, c)) })
	}
}

// startGluster starts two hosts with such pools.
func startGluster(t *testing.T) *lab.Cluster {
	t.Helper()
	began := time.Now()
	var servers []string
	for _, a := range lab.GlusterAddresses() {
		servers = append(servers, a.String())
	}
	text := fmt.Sprintf(glusterConfiguration, lease, strings.Join(servers, ", "), mountTimeout)
	c := lab.ClusterForTest(t, lab.ClusterOptions{
		Hosts: 2, Servers: 1, Dvold: dvold, Beat: beatCommand, Guard: true, Gluster: true,
		Configure: func(string) string { return text },
	})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, subdir := range []string{"fenced", "leased"} {
		if err := c.Gluster().MakeDir(t.Context(), subdir); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("started in %v", time.Since(began).Round(time.Millisecond))
	return c
}

// brickFile is where a file of a volume lies on a node.
func (c *cluster) brickFile(n *lab.GlusterNode, volume, name string) (string, error) {
	var files []string
	var err error
	for _, pool := range []string{"fenced", "leased"} {
		found, globbing := filepath.Glob(n.Brick(filepath.Join(pool, "volumes", volume+".*", name)))
		files, err = append(files, found...), errors.Join(err, globbing)
	}
	if err == nil && len(files) != 1 {
		err = fmt.Errorf("%s has %v for %s of %s, want one file", n.Name(), files, name, volume)
	}
	if err != nil {
		return "", err
	}
	return files[0], nil
}

func testGlusterWriteHereReadThere(c *cluster) {
	testOneWritesOthersRead(c)
	for _, n := range c.Gluster().Nodes() {
		c.h(1).eventually("the brick of "+n.Name(), func() error {
			file, err := c.brickFile(n, "datastore", "hello")
			if err != nil {
				return err
			}
			if text, err := os.ReadFile(file); err != nil || string(text) != "hello\n" {
				return fmt.Errorf("it has %q (%v)", text, err)
			}
			return nil
		})
	}
}

// A container writes on while a brick is away, and then a whole server. What they
// missed is healed, and all bricks are alike.
func testGlusterServerEnds(c *cluster) {
	h, g := c.h(1), c.Gluster()
	g2, g3 := g.Node(2), g.Node(3)
	h.beat("writer", "written")
	for _, part := range []struct {
		what         string
		end, restart func() error
	}{
		{"brick", func() error { return g3.KillBrick(h.ctx) }, func() error { return g.Start(h.ctx, g3) }},
		{"server", g2.Kill, func() error { return errors.Join(g2.Boot(h.ctx), g.Start(h.ctx, g2)) }},
	} {
		h.must(part.end())
		ended := lab.SinceBoot()
		h.eventually("beats without a "+part.what, func() error {
			beats, err := c.glusterBeats(g.Node(1), "written")
			if err == nil && (len(beats) == 0 || beats[len(beats)-1].At < ended+time.Second) {
				err = errors.New("there are none")
			}
			return err
		})
		c.t.Logf("without a %s it writes on after %v", part.what, (lab.SinceBoot() - ended - time.Second).Round(time.Millisecond))
		h.must(part.restart())
		began := time.Now()
		c.wantHealed()
		c.t.Logf("the %s was healed in %v", part.what, time.Since(began).Round(time.Millisecond))
	}
	h.removeContainer("writer")
	c.wantHealed()
	first := c.brickContents(g.Node(1))
	if len(first) < 3 { // volumes, the volume's directory, the file
		c.t.Errorf("a brick has %d files", len(first))
	}
	for _, n := range g.Nodes() {
		if _, err := c.glusterBeats(n, "written"); err != nil {
			c.t.Errorf("beats on %s: %v", n.Name(), err)
		}
		other := c.brickContents(n)
		for name, text := range first {
			if other[name] != text {
				c.t.Errorf("%s has other contents of %s than g1", n.Name(), name)
			}
		}
		want(c.t, "number of files of "+n.Name(), len(other), len(first))
	}
}

// glusterBeats are the beats that have reached a node.
func (c *cluster) glusterBeats(n *lab.GlusterNode, volume string) ([]lab.Beat, error) {
	file, err := c.brickFile(n, volume, "beats")
	if err != nil {
		return nil, err
	}
	return lab.Beats(file)
}

// wantHealed waits until no brick lacks anything.
func (c *cluster) wantHealed() {
	c.t.Helper()
	c.h(1).eventually("heal", func() error {
		info, err := c.Gluster().Exec(c.t.Context(), "volume", "heal", lab.GlusterVolume, "info")
		if err == nil && strings.Count(info+"\n", "Number of entries: 0\n") != len(c.Gluster().Nodes()) {
			err = errors.New(info)
		}
		return err
	})
}

// brickContents are the files of a brick, with their modes and contents.
func (c *cluster) brickContents(n *lab.GlusterNode) map[string]string {
	c.t.Helper()
	all := make(map[string]string)
	root := n.Brick(".")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if strings.HasPrefix(name, ".glusterfs") { // its own books
			return filepath.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text := []byte(nil)
		if d.Type().IsRegular() {
			if text, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		all[name] = fmt.Sprint(info.Mode(), string(text))
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return all
}
