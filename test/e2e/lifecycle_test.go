package e2e_test

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

func TestAnonymousVolumesGoWithTheirContainer(t *testing.T) {
	h := sharedHost(t)
	h.sh("touch /data/file", "-v", "/data") // --rm
	want(t, "volumes", h.volumes(), "")
	h.docker("run", "--name", "box", "--volume-driver", "dvol", "-v", "/data", lab.BusyBox, "touch", "/data/file")
	name := h.volumes()
	if len(name) != 64 {
		t.Fatalf("volumes = %q, want an anonymous one", name)
	}
	h.docker("rm", "-v", "box")
	want(t, "volumes", h.volumes(), "")
	if trash := h.dvold("trash", "ls"); !strings.Contains(trash, name) {
		t.Errorf("trash = %s, want %s in it", trash, name)
	}
}

func TestNamedVolumeOutlivesContainer(t *testing.T) {
	h := sharedHost(t)
	h.docker("run", "--name", "box", "--volume-driver", "dvol", "-v", "store:/data", lab.BusyBox, "touch", "/data/file")
	h.docker("rm", "-v", "box")
	want(t, "volumes", h.volumes(), "store")
	want(t, "files", h.sh("ls /data", "-v", "store:/data"), "file")
}

func TestListInspectRemove(t *testing.T) {
	h := sharedHost(t)
	h.create("store", "--label", "team=blue", "-o", "mode=0700")
	want(t, "list", h.docker("volume", "ls", "--format", "{{.Driver}} {{.Name}} {{.Scope}}"), "dvol store global")
	format := `{{.Name}} {{.Driver}} {{.Scope}} {{index .Labels "team"}} {{index .Options "mode"}} {{index .Status "pool"}}`
	want(t, "inspect", h.docker("volume", "inspect", "store", "--format", format), "store dvol global blue 0700 local")
	if at := h.docker("volume", "inspect", "store", "--format", "{{.CreatedAt}}"); len(at) < len("2006-01-02T15:04:05Z") {
		t.Errorf("created at %q, want a time", at)
	}
	h.start("box", idle, "-v", "store:/data")
	h.dockerFails([]string{"volume is in use"}, "volume", "rm", "store")
	h.dockerFails([]string{"volume is in use"}, "volume", "rm", "-f", "store")
	h.docker("stop", "box")
	h.dockerFails([]string{"volume is in use"}, "volume", "rm", "store")
	h.docker("rm", "box")
	h.docker("volume", "rm", "store")
	want(t, "volumes", h.volumes(), "")
	h.dockerFails([]string{"store"}, "volume", "inspect", "store")
	h.dockerFails([]string{"store"}, "volume", "rm", "store")
}

func TestCreateTwice(t *testing.T) {
	h := sharedHost(t)
	h.create("store", "-o", "mode=0750")
	id := h.inspect("store").ID
	h.create("store", "-o", "mode=0750")
	h.create("store")
	if again := h.inspect("store").ID; again != id {
		t.Errorf("ID = %s, was %s", again, id)
	}
	// The engine itself asks for Create only where Get finds nothing.
	_, err := h.Dvold(h.ctx, "volume", "create", "store", "-o", "mode=0700")
	h.wantError(err, []string{"mode", "0750", "0700"}, "create with another mode")
	h.dvold("volume", "create", "store", "-o", "mode=0750")
}

func TestUndelete(t *testing.T) {
	h := sharedHost(t)
	h.sh("echo precious >/data/file", "-v", "store:/data")
	h.docker("volume", "rm", "store")
	h.sh("echo newer >/data/file", "-v", "store:/data")
	_, err := h.Dvold(h.ctx, "trash", "restore", "store")
	h.wantError(err, []string{"store"}, "restore over a volume")
	h.dvold("trash", "restore", "store", "--as", "rescued")
	want(t, "rescued", h.sh("cat /data/file", "-v", "rescued:/data"), "precious")
	want(t, "the newer one", h.sh("cat /data/file", "-v", "store:/data"), "newer")

	h.docker("volume", "rm", "rescued")
	h.dvold("trash", "restore", "rescued")
	want(t, "rescued again", h.sh("cat /data/file", "-v", "rescued:/data"), "precious")
}

func TestPruneAndDiskUsageLeaveVolumesAlone(t *testing.T) {
	h := sharedHost(t)
	h.sh("echo 1 >/data/file", "-v", "store:/data")
	h.docker("volume", "prune", "-f")
	h.docker("system", "df", "-v")
	h.docker("system", "prune", "-f", "--volumes")
	want(t, "volumes", h.volumes(), "store")
	want(t, "content", h.sh("cat /data/file", "-v", "store:/data"), "1")
}

// A monitoring agent mounts the whole host, and with it whatever volumes were
// mounted when it started.
func TestMonitorOfWholeHostDoesNotHoldVolumes(t *testing.T) {
	h := sharedHost(t)
	h.start("earlier", idle, "-v", "early:/data")
	h.start("monitor", idle, "-v", "/:/rootfs:ro")
	h.start("later", idle, "-v", "late:/data")
	h.wantMounts(2)
	h.docker("rm", "-f", "earlier", "later")
	h.wantMounts(0)
	h.docker("volume", "rm", "early", "late")
	want(t, "volumes", h.volumes(), "")
	want(t, "monitor runs", h.docker("inspect", "monitor", "--format", "{{.State.Running}}"), "true")
}

func TestManyAnonymousVolumesAtOnce(t *testing.T) {
	h := sharedHost(t)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			out, err := h.Docker(h.ctx, "run", "--rm", "--volume-driver", "dvol", "-v", "/data", lab.BusyBox, "sh", "-c", "touch /data/file; ls /data")
			if err != nil || out != "file" {
				t.Errorf("files = %q (%v), want file", out, err)
			}
		})
	}
	wg.Wait()
	want(t, "volumes", h.volumes(), "")
	h.wantMounts(0)
}

// A process of the host with its working directory in a volume keeps it from
// being unmounted; the engine asks only once.
func TestHostProcessDelaysUnmount(t *testing.T) {
	h := sharedHost(t)
	h.start("box", idle, "-v", "store:/data")
	ctx, leave := context.WithCancel(h.ctx)
	left := make(chan struct{})
	ready := h.scratch("ready")
	go func() {
		defer close(left)
		h.Exec(ctx, "sh", "-c", "cd $0 && touch $1 && exec sleep 1000", h.inspect("store").Mountpoint, ready)
	}()
	defer func() { leave(); <-left }()
	h.eventually("process in the volume", func() bool {
		_, err := os.Stat(ready)
		return err == nil
	})
	h.docker("rm", "-f", "box")
	h.wantMounts(1)
	h.dockerFails([]string{"store", "in use"}, "volume", "rm", "store")
	h.sh("touch /data/file", "-v", "store:/data") // can be used again meanwhile
	h.wantMounts(1)
	leave()
	<-left
	h.wantMounts(0)
	h.docker("volume", "rm", "store")
}

func TestOperatorRemovesVolume(t *testing.T) {
	h := sharedHost(t)
	h.start("box", beat, "-v", "store:/data")
	_, err := h.Dvold(h.ctx, "volume", "rm", "store")
	h.wantError(err, []string{"store", "mounted"}, "remove a volume that a container uses")
	h.wantBeating("box")
	h.docker("stop", "box")
	h.dvold("volume", "rm", "store")
	h.dockerFails([]string{"store"}, "start", "box")
	h.dvold("trash", "restore", "store")
	h.docker("start", "box")
	h.wantBeating("box")
}

// Once dvold has a volume, the driver need not be named.
func TestExistingVolumeNeedsNoDriver(t *testing.T) {
	h := sharedHost(t)
	h.dvold("volume", "create", "store") // the engine has never heard of it
	h.docker("run", "--rm", "-v", "store:/data", lab.BusyBox, "touch", "/data/file")
	want(t, "driver", h.docker("volume", "inspect", "store", "--format", "{{.Driver}}"), "dvol")
	want(t, "files", h.sh("ls /data", "-v", "store:/data"), "file")
}

// volumes lists the names of all volumes.
func (h *host) volumes() string {
	h.t.Helper()
	return h.docker("volume", "ls", "-q")
}
