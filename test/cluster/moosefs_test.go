package cluster_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

// mooseDir is where the hosts have MooseFS.
const mooseDir = "/mnt/mfs"

// TestMooseFS has hosts share volumes on a distributed file system that the operator
// mounts on each, which dvold knows nothing of: what dvol has for MooseFS and
// LizardFS, for Lustre and for BeeGFS, is pools of type local with shared: true.
func TestMooseFS(t *testing.T) {
	t.Parallel()
	var server *lab.Machine
	c := newCluster(t, 2, 1, func(c *lab.Cluster) {
		var err error
		if server, err = c.AddStorage(t.Context()); err != nil {
			t.Fatal(err)
		}
		startMooseFS(t, server)
		for _, h := range c.Hosts() {
			moose(t, h.Machine, "mount", "-t", "tmpfs", "tmpfs", "/mnt") // /mnt is this machine's
			moose(t, h.Machine, "mkdir", mooseDir)
			moose(t, h.Machine, "mfsmount", mooseDir, "-H", server.Address().String())
			err := h.Configure(fmt.Sprintf(`coordination: {type: consul, lease_ttl: %v}
default_pool: data
pools: {data: {type: local, path: %s, shared: true, require_mount: true}}
`, lease, mooseDir))
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	h1, h2 := c.h(1), c.h(2)

	// The main job, and both at once.
	h1.docker("run", "--network", "host", "--volume-driver", "dvol", "--volume", "datastore:/data", lab.BusyBox, "touch", "/data/hello")
	want(t, "ls on h2", h2.docker("run", "--rm", "--network", "host", "--volume-driver", "dvol", "--volume", "datastore:/data", lab.BusyBox, "ls", "/data"), "hello")
	h1.start("writer", "echo h1 >/data/of-h1; until grep -qs h2 /data/of-h2; do sleep 0.1; done; exec sleep 1000", "datastore:/data")
	h2.sh("datastore", "until grep -qs h1 /data/of-h1; do sleep 0.1; done; echo h2 >/data/of-h2")
	h1.eventually("h1 reads what h2 wrote", func() error {
		_, err := h1.Docker(h1.ctx, "exec", "writer", "grep", "h2", "/data/of-h2")
		return err
	})

	testWriteOnBoth(c)

	// Without the file system there is no bare directory instead.
	moose(t, h2.Machine, "umount", mooseDir)
	if _, err := h2.trySh("datastore", "true"); !hasWords(err, mooseDir) {
		t.Errorf("run without MooseFS: %v", err)
	}
	moose(t, h2.Machine, "mfsmount", mooseDir, "-H", server.Address().String())
	h2.eventually("h2 has the volume again", func() error {
		_, err := h2.trySh("datastore", "grep h1 /data/of-h1")
		return err
	})
}

// startMooseFS starts a master and a chunk server on a machine.
func startMooseFS(t *testing.T, m *lab.Machine) {
	t.Helper()
	for _, dir := range []string{"master", "chunk", "disk"} {
		if err := os.Mkdir(m.Path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	at := m.Address()
	for name, text := range map[string]string{
		"exports.cfg": "* / rw,alldirs,maproot=0:0\n",
		"disks.cfg":   m.Path("disk") + "\n",
		"master.cfg": fmt.Sprintf(`WORKING_USER = root
WORKING_GROUP = root
DATA_PATH = %s
EXPORTS_FILENAME = %s
TOPOLOGY_FILENAME = %s
MATOML_LISTEN_HOST = %v
MATOCS_LISTEN_HOST = %v
MATOCL_LISTEN_HOST = %v
`, m.Path("master"), m.Path("exports.cfg"), m.Path("topology.cfg"), at, at, at),
		"topology.cfg": "",
		"chunk.cfg": fmt.Sprintf(`WORKING_USER = root
WORKING_GROUP = root
DATA_PATH = %s
HDD_CONF_FILENAME = %s
MASTER_HOST = %v
CSSERV_LISTEN_HOST = %v
`, m.Path("chunk"), m.Path("disks.cfg"), at, at),
	} {
		if err := os.WriteFile(m.Path(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	empty, err := os.ReadFile("/var/lib/mfs/metadata.mfs.empty")
	if err == nil {
		err = os.WriteFile(m.Path("master/metadata.mfs"), empty, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	moose(t, m, "mfsmaster", "-c", m.Path("master.cfg"), "start")
	moose(t, m, "mfschunkserver", "-c", m.Path("chunk.cfg"), "start")
}

// moose runs a command of MooseFS, or for it, in a machine.
func moose(t *testing.T, m *lab.Machine, argv ...string) {
	t.Helper()
	if out, err := m.Exec(t.Context(), argv...); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
}
