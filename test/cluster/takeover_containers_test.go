package cluster_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// bystanders are containers of a host that have nothing to do with a volume
// that it loses, and where they write beats to.
type bystanders struct {
	h     *host
	files map[string]string // by container
}

// newBystanders starts a monitor that sees all of the host, as many are started,
// a neighbour with a volume of the same pool, and so on the same superblock, and
// a container that has no volume at all.
func newBystanders(c *cluster, h *host) bystanders {
	c.t.Helper()
	b := bystanders{h: h, files: map[string]string{
		"monitor":   c.Path("shared/monitor"),
		"neighbour": "",
		"plain":     h.Path("plain/beats"),
	}}
	h.must(os.Mkdir(h.Path("plain"), 0o755))
	h.create("neighbour", "pool=shared")
	for name, args := range map[string][]string{
		"monitor":   {"--pid", "host", "-v", "/:/rootfs", lab.BusyBox, "beat", "/rootfs/shared/monitor"},
		"neighbour": {"--volume-driver", "dvol", "-v", "neighbour:/data", lab.BusyBox, "beat", "/data/beats"},
		"plain":     {"-v", h.Path("plain") + ":/plain", lab.BusyBox, "beat", "/plain/beats"},
	} {
		h.docker(append([]string{"run", "-d", "--name", name, "--hostname", h.Name(), "--network", "host", "--stop-signal", "KILL"}, args...)...)
	}
	found, err := filepath.Glob(c.Path("shared/shared/volumes/neighbour.*"))
	if err != nil || len(found) != 1 {
		c.t.Fatalf("directories of the neighbour: %v (%v)", found, err)
	}
	b.files["neighbour"] = filepath.Join(found[0], "beats")
	b.wantWell(0)
	return b
}

// wantWell checks that all of them are as they were, and have written something
// after a moment.
func (b bystanders) wantWell(after time.Duration) {
	b.h.t.Helper()
	for name, file := range b.files {
		b.h.eventually(name+" writes", func() error {
			beats, err := lab.Beats(file)
			if err == nil && (len(beats) == 0 || beats[len(beats)-1].At <= after) {
				err = errors.New("nothing new")
			}
			return err
		})
		want(b.h.t, "starts of "+name, b.h.docker("inspect", "-f", "{{.State.Running}} {{.RestartCount}}", name), "true 0")
	}
}

// mountpoint is where a host has a volume mounted.
func (h *host) mountpoint(volume string) string {
	h.t.Helper()
	mounts, err := h.Mounts("/run/dvol/mnt")
	h.must(err)
	for _, m := range mounts {
		if strings.HasPrefix(filepath.Base(m), volume+".") {
			return m
		}
	}
	h.t.Fatalf("%s is not mounted on %s: %v", volume, h.Name(), mounts)
	return ""
}

// What a host does to a volume that it gives up or loses, and to nothing else.
func TestHazards11And15To18OnlyTheGuiltyDie(t *testing.T) {
	c := takeoverCluster(t, 2)
	h1, h2 := c.h(1), c.h(2)
	lost := place{"shared", "lost"}
	h1.createExclusive("shared", "lost", "mount_wait=2s")
	h1.createExclusive("shared", "left", "mount_wait=2s")
	restarted := h1.writer("lost", "lost")
	restarted.Restart = "always"
	h1.must(h1.Run(h1.ctx, restarted))
	h1.beat("left", "left")
	c.must(c.beatsOn(lost, h1, 0))
	c.must(c.beatsOn(place{"shared", "left"}, h1, 0))
	// They have a copy of every mount there is by now.
	others := newBystanders(c, h1)

	t.Run("Hazard11UnmountedIsNotReleased", func(t *testing.T) {
		c := c.in(t)
		h1, h2 := c.h(1), c.h(2)
		at := h1.mountpoint("left")
		h1.docker("exec", "-d", "monitor", "sh", "-c", "cd /rootfs"+at+" && echo $$ >/rootfs/shared/pid && exec sleep 1000")
		var pid string
		h1.eventually("process in the volume", func() error {
			text, err := os.ReadFile(c.Path("shared/pid"))
			if pid = strings.TrimSpace(string(text)); err == nil && pid == "" {
				err = errors.New("it is about to tell its number")
			}
			return err
		})
		h1.removeContainer("left")
		h1.eventually("owner of left", func() error {
			o, err := h1.tryOwner("left")
			if err == nil && (o.State != "releasing" || o.Host != "h1" || !strings.Contains(o.Problem, "process "+pid+" ")) {
				err = fmt.Errorf("%+v, want it releasing, for process %s", o, pid)
			}
			return err
		})
		h2.fails("start of what h1 has not let go of", h2.tryBeat("left", "left"), `owned by host "h1"`, "can't let go of it", "process "+pid+" ")
		h2.removeContainer("left")
		h1.docker("exec", "monitor", "kill", "-KILL", pid)
		h2.takeOver("left", "left", lab.SinceBoot(), patience)
		h2.wantOwner("left", "h2", 2)
		c.must(c.beatsOn(place{"shared", "left"}, h2, 0))
		h2.removeContainer("left")
		t.Logf("from last to first write: %v", c.wantOneWriter("shared", "left", "h1", "h2"))
		others.in(h1).wantWell(lab.SinceBoot())
	})

	// Cut off from Consul, h1 loses the volume; from the storage, another file
	// system hangs meanwhile, in every namespace.
	since := lab.SinceBoot()
	h1.must(h1.Cut(h1.ctx, lab.Storage))
	h1.must(h1.Cut(h1.ctx, lab.Consul))
	h2.takeOver("lost", "lost", since, leaseTakeover+machineTime)
	c.must(c.beatsOn(lost, h2, 0))
	h1.must(h1.Heal(h1.ctx))
	h1.must(h1.Rejoin(h1.ctx))

	t.Run("Hazard15MonitorAndEnginesSurvive", func(t *testing.T) {
		c := c.in(t)
		h1 := c.h(1)
		c.wantWriterStopped(lost, h1, since)
		others.in(h1).wantWell(lab.SinceBoot())
		for _, d := range h1.Daemons() {
			if !d.Running() {
				t.Errorf("%s does not run any more", d.Name())
			}
		}
		// Not even there is the volume any more.
		if out, err := h1.Docker(h1.ctx, "exec", "monitor", "grep", "/run/dvol/mnt/lost", "/proc/self/mountinfo"); err == nil {
			t.Errorf("the monitor has it mounted: %s", out)
		}
	})
	t.Run("Hazard16NeighbourOnTheSuperblockSurvives", func(t *testing.T) {
		c := c.in(t)
		h1 := c.h(1)
		h1.sh("neighbour", "echo 1 >/data/file && sync")
		if beats, err := lab.Beats(others.files["neighbour"]); err != nil || beats[len(beats)-1].Seq != len(beats) {
			t.Errorf("%d beats of the neighbour: %v", len(beats), err)
		}
		h1.wantHolders("neighbour", "h1")
		c.wantOneWriter("shared", "lost", "h1", "h2")
	})
	t.Run("Hazard17RestartPolicyDoesNotBringItBack", func(t *testing.T) {
		c := c.in(t)
		h1, h2 := c.h(1), c.h(2)
		h1.eventually("state of the writer", func() error {
			out, err := h1.Docker(h1.ctx, "inspect", "-f", "{{.State.Running}} {{.State.Error}}", "lost")
			if err == nil && (!strings.HasPrefix(out, "false ") || !strings.Contains(out, `volume "lost"`)) {
				err = errors.New(out)
			}
			return err
		})
		c.must(c.beatsOn(lost, h2, lab.SinceBoot()))
		c.wantOneWriter("shared", "lost", "h1", "h2")
		// It stays down although h1 is well: somebody has to start it.
		h1.wantBelief()
		h1.fails("start of the writer where it was", func() error {
			_, err := h1.Docker(h1.ctx, "start", "lost")
			return err
		}(), `owned by host "h2"`)
	})
	t.Run("Hazard18HungFileSystemIsNotInTheWay", func(t *testing.T) {
		h1 := h1.in(t, t.Context())
		h1.wantReboots(0) // it verified its cut
		h1.wantMounts(1)  // the neighbour
	})
	h2.wantReboots(0)
}

// in is the cluster for a subtest.
func (c *cluster) in(t *testing.T) *cluster {
	sub := &cluster{Cluster: c.Cluster, t: t}
	for _, h := range c.hosts {
		sub.hosts = append(sub.hosts, h.in(t, t.Context()))
	}
	return sub
}

// in are the bystanders for a subtest.
func (b bystanders) in(h *host) bystanders { return bystanders{h, b.files} }
