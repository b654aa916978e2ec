package e2e_test

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDockerCrashesAndContainerIsRestarted(t *testing.T) {
	h := ownHost(t)
	h.start("box", beat, "-v", "store:/data", "--restart", "always")
	h.must(h.KillDocker())
	h.must(h.StartDocker(h.ctx))
	h.eventually("container runs again", func() bool { return h.running("box") })
	h.wantBeating("box")
	h.wantMounts(1)
	h.wantUses("store", 1)
	h.docker("stop", "box")
	h.wantUses("store", 0) // at once, not when dvold notices that an engine is gone
	h.wantMounts(0)
}

func TestDockerCrashesAndContainerStaysDown(t *testing.T) {
	h := ownHost(t)
	h.start("box", beat, "-v", "store:/data")
	h.must(h.KillDocker())
	h.must(h.StartDocker(h.ctx))
	h.eventually("container is down", func() bool { return !h.running("box") })
	h.wantMounts(0) // without a word from the engine
	h.wantUses("store", 0)
	h.docker("start", "box")
	h.wantBeating("box")
	h.wantMounts(1)
	h.docker("stop", "box")
	h.wantMounts(0)
}

// An engine that crashed sends no Unmount for a container that it then removes.
func TestDockerCrashesAndContainerIsRemoved(t *testing.T) {
	h := ownHost(t)
	h.start("box", beat, "-v", "store:/data")
	h.must(h.KillDocker())
	h.must(h.StartDocker(h.ctx))
	h.docker("rm", "-f", "box")
	h.docker("volume", "rm", "store")
	h.wantMounts(0)
}

func TestDockerCrashesWithLiveRestore(t *testing.T) {
	h := ownHost(t)
	h.must(h.StopDocker())
	h.must(h.StartDocker(h.ctx, "--live-restore"))
	h.start("box", beat, "-v", "store:/data")
	h.wantBeating("box")
	h.must(h.KillDocker())
	size := func() int64 {
		fi, err := os.Stat(filepath.Join(h.data("store"), "beats"))
		h.must(err)
		return fi.Size()
	}
	first := size()
	h.eventually("writing without an engine", func() bool { return size() > first })
	h.must(h.StartDocker(h.ctx, "--live-restore"))
	h.wantBeating("box")
	h.docker("cp", "box:/data/beats", h.scratch("out"))
	h.wantBeating("box")
	h.wantMounts(1)
	h.docker("stop", "box")
	h.wantUses("store", 0)
	h.wantMounts(0)
}

func TestDockerIsStopped(t *testing.T) {
	h := ownHost(t)
	h.start("box", beat, "-v", "store:/data", "--restart", "always")
	h.must(h.StopDocker())
	h.wantMounts(0)
	h.must(h.StartDocker(h.ctx))
	h.eventually("container runs again", func() bool { return h.running("box") })
	h.wantBeating("box")
	h.docker("stop", "box")
	h.wantMounts(0)
}

func TestDockerStartsBeforeDvold(t *testing.T) {
	h := ownHost(t)
	h.sh("echo 1 >/data/file", "-v", "store:/data")
	h.docker("create", "--name", "box", "--volume-driver", "dvol", "-v", "store:/data", "lab/busybox", "cat", "/data/file")
	h.must(h.StopDocker())
	h.must(h.StopDvold())
	h.must(h.StartDocker(h.ctx)) // waits 15 s for dvold
	h.dockerFails([]string{"dvol"}, "start", "-a", "box")
	h.must(h.StartDvold(h.ctx))
	want(t, "content", h.docker("start", "-a", "box"), "1")
}

func TestReboot(t *testing.T) {
	h := ownHost(t)
	h.start("box", "cat /data/file; echo written >/data/file; "+idle, "-v", "store:/data")
	h.start("always", beat, "-v", "other:/data", "--restart", "always")
	h.wantMounts(2)
	h.must(h.Reboot(h.ctx))
	h.must(h.StartDvold(h.ctx))
	for _, name := range []string{"store", "other"} {
		if v := h.inspect(name); v.Mounted || len(v.Uses) > 0 {
			t.Errorf("%s claims to be mounted: %+v", name, v)
		}
	}
	h.wantMounts(0)
	h.must(h.StartDocker(h.ctx))
	h.eventually("container runs again", func() bool { return h.running("always") })
	h.wantBeating("always")
	h.docker("start", "box")
	h.eventually("content", func() bool { return h.docker("logs", "box") != "" })
	want(t, "content", h.docker("exec", "box", "cat", "/data/file"), "written")
	h.docker("stop", "box", "always")
	h.wantMounts(0)
}

// running tells whether a container runs.
func (h *host) running(container string) bool {
	h.t.Helper()
	return h.docker("inspect", container, "--format", "{{.State.Running}} {{.State.Restarting}}") == "true false"
}
