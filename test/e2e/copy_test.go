package e2e_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/dvol/dvold/test/lab"
)

// The engine mounts and unmounts under the mount ID of the running container
// while it copies (moby#34665).
func TestCopyDoesNotUnmountRunningContainer(t *testing.T) {
	h := sharedHost(t)
	in, out := h.scratch("in"), h.scratch("out")
	h.must(os.WriteFile(in, []byte("copied"), 0o644))
	h.start("box", beat, "-v", "store:/data")
	for range 3 {
		h.docker("cp", in, "box:/data/in")
		h.docker("cp", "box:/data/in", out)
	}
	got, err := os.ReadFile(out)
	h.must(err)
	want(t, "content", string(got), "copied")
	h.wantMounts(1)
	h.wantBeating("box")
	h.wantUses("store", 1)
	h.docker("stop", "box")
	h.wantMounts(0)
}

func TestCopyWithContainerThatDoesNotRun(t *testing.T) {
	h := sharedHost(t)
	in, out := h.scratch("in"), h.scratch("out")
	h.must(os.WriteFile(in, []byte("copied"), 0o644))
	h.docker("create", "--name", "created", "--volume-driver", "dvol", "-v", "store:/data", lab.BusyBox, "cat", "/data/in")
	h.docker("cp", in, "created:/data/in")
	h.wantMounts(0)
	h.docker("cp", "created:/data/in", out)
	got, err := os.ReadFile(out)
	h.must(err)
	want(t, "content", string(got), "copied")
	want(t, "content inside", h.docker("start", "-a", "created"), "copied")
	h.wantMounts(0)
	h.docker("cp", "created:/data/in", out)
	h.wantMounts(0)
}

func TestBackupAndRestore(t *testing.T) {
	h := sharedHost(t)
	h.start("app", "mkdir /data/dir; echo text >/data/dir/file; chown 12:34 /data/dir/file; touch /data/done; "+idle, "-v", "store:/data")
	h.eventually("app is ready", func() bool {
		_, err := h.Docker(h.ctx, "exec", "app", "test", "-e", "/data/done")
		return err == nil
	})
	backup := h.scratch("backup")
	h.must(os.Mkdir(backup, 0o755))
	h.sh("tar -C /data -cf /backup/store.tar .", "--volumes-from", "app", "-v", backup+":/backup")
	h.sh("tar -C /data -xf /backup/store.tar", "-v", "restored:/data", "-v", backup+":/backup")
	want(t, "restored", h.sh("cat /data/dir/file; stat -c %u:%g /data/dir/file", "-v", "restored:/data"), "text\n12:34")
}

// scratch is a path for a file of this test.
func (h *host) scratch(name string) string {
	h.t.Helper()
	dir, err := os.MkdirTemp(h.Path("tmp"), "scratch")
	h.must(err)
	return filepath.Join(dir, name)
}
