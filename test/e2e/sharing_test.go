package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

func TestWriteInOneContainerReadInAnother(t *testing.T) {
	h := sharedHost(t)
	h.docker("run", "--volume-driver", "dvol", "--volume", "datastore:/data", lab.BusyBox, "touch", "/data/hello")
	got := h.docker("run", "--volume-driver", "dvol", "--volume", "datastore:/data", lab.BusyBox, "ls", "/data")
	want(t, "files", got, "hello")
}

func TestImageContentIsCopiedIn(t *testing.T) {
	h := sharedHost(t)
	h.build("lab/content", `RUN mkdir -p /data/sub && echo text >/data/sub/file && chown -R 123:456 /data && chmod 2750 /data && chmod 604 /data/sub/file`)
	look := []string{"run", "--rm", "--volume-driver", "dvol", "-v", "content:/data", "lab/content",
		"sh", "-c", "stat -c '%u:%g %a' /data /data/sub/file; cat /data/sub/file; echo changed >/data/sub/file"}
	want(t, "first look", h.docker(look...), "123:456 2750\n123:456 604\ntext")
	want(t, "second look", h.docker(look...), "123:456 2750\n123:456 604\nchanged")
	want(t, "volume not used for its content", h.sh("ls /data", "-v", "other:/data"), "")
}

func TestDockerfileVolume(t *testing.T) {
	h := sharedHost(t)
	h.build("lab/volume", "RUN mkdir /data && touch /data/given\nVOLUME /data")
	h.docker("run", "-d", "--name", "box", "--volume-driver", "dvol", "--stop-signal", "KILL", "lab/volume", "sh", "-c", idle)
	want(t, "driver", h.docker("inspect", "box", "--format", "{{range .Mounts}}{{.Driver}} {{.Destination}}{{end}}"), "dvol /data")
	want(t, "files", h.docker("exec", "box", "ls", "/data"), "given")
	h.wantMounts(1)
}

func TestVolumesFrom(t *testing.T) {
	h := sharedHost(t)
	h.start("app", idle, "-v", "store:/data")
	h.sh("echo 1 >/data/file", "--volumes-from", "app")
	want(t, "content", h.docker("exec", "app", "cat", "/data/file"), "1")
	h.docker("stop", "app")
	want(t, "content, app stopped", h.sh("cat /data/file", "--volumes-from", "app:ro"), "1")
	h.wantMounts(0)
}

func TestVolumesFromDataContainerNeverStarted(t *testing.T) {
	h := sharedHost(t)
	h.docker("create", "--name", "data-only", "--volume-driver", "dvol", "-v", "store:/data", "-v", "/anonymous", lab.BusyBox, "true")
	h.sh("echo 1 >/data/file; echo 2 >/anonymous/file", "--volumes-from", "data-only")
	want(t, "content", h.sh("cat /data/file /anonymous/file", "--volumes-from", "data-only"), "1\n2")
}

func TestHostSeesFilesAndContainerSeesTheHosts(t *testing.T) {
	h := sharedHost(t)
	h.start("box", idle, "-v", "store:/data")
	h.must(os.WriteFile(filepath.Join(h.data("store"), "from-host"), []byte("hello"), 0o644))
	want(t, "inside", h.docker("exec", "box", "cat", "/data/from-host"), "hello")
	h.docker("exec", "box", "touch", "/data/from-box")
	if _, err := os.Stat(filepath.Join(h.data("store"), "from-box")); err != nil {
		t.Error(err)
	}
}

func TestReadOnly(t *testing.T) {
	h := sharedHost(t)
	h.sh("echo 1 >/data/file", "-v", "store:/data")
	want(t, "content", h.sh("cat /data/file; touch /data/new 2>/dev/null || echo refused", "-v", "store:/data:ro"), "1\nrefused")
}

func TestOneOfTwoContainersStops(t *testing.T) {
	h := sharedHost(t)
	h.start("first", beat, "-v", "store:/data")
	h.start("second", idle, "-v", "store:/data")
	h.wantMounts(1)
	h.docker("stop", "second")
	h.wantBeating("first")
	h.wantMounts(1)
	h.docker("stop", "first")
	h.wantMounts(0)
}

func TestVolumeTwiceInOneContainer(t *testing.T) {
	h := sharedHost(t)
	h.start("box", idle, "-v", "store:/a", "-v", "store:/b")
	h.docker("exec", "box", "touch", "/a/file")
	want(t, "files", h.docker("exec", "box", "ls", "/b"), "file")
	h.wantUses("store", 2)
	h.docker("stop", "box")
	h.wantMounts(0)
}

func TestManyContainersStartAtOnce(t *testing.T) {
	const n = 20
	h := sharedHost(t)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if _, err := h.Docker(h.ctx, "run", "-d", "--volume-driver", "dvol", "-v", "store:/data",
				lab.BusyBox, "sh", "-c", fmt.Sprintf("touch /data/%d; %s", i, idle)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	h.wantMounts(1)
	h.eventually("files", func() bool { return len(strings.Fields(h.sh("ls /data", "-v", "store:/data"))) == n })
	h.wantUses("store", n)
}

// build makes an image of the busybox image and further lines of a Dockerfile.
func (h *host) build(name, lines string) {
	h.t.Helper()
	dir, err := os.MkdirTemp(h.Path("tmp"), "build")
	h.must(err)
	h.must(os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM "+lab.BusyBox+"\n"+lines+"\n"), 0o644))
	h.docker("build", "--quiet", "--network", "host", "--tag", name, dir)
}
