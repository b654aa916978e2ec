package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/test/lab"
)

// migrate runs dvold migrate docker-local, which must succeed.
func (h *host) migrate(args ...string) string {
	h.t.Helper()
	return h.dvold(h.migrateArgs(args...)...)
}

func (h *host) migrateArgs(args ...string) []string {
	return append([]string{"migrate", "docker-local", "--docker-root", h.Path("docker")}, args...)
}

func (h *host) migrateFails(words []string, args ...string) {
	h.t.Helper()
	_, err := h.Dvold(h.ctx, h.migrateArgs(args...)...)
	h.wantError(err, words, "dvold migrate "+strings.Join(args, " "))
}

// original is the data of a volume of the local driver.
func (h *host) original(name string, path ...string) string {
	return h.Path(filepath.Join(append([]string{"docker/volumes", name, "_data"}, path...)...))
}

// local makes a volume of the local driver, and fills it by a script.
func (h *host) local(name, script string) {
	h.t.Helper()
	h.docker("volume", "create", name)
	h.docker("run", "--rm", "-v", name+":/data", lab.BusyBox, "sh", "-c", script)
}

// listing describes all files below dir, times in nanoseconds and data
// included.
const listing = `cd "$1" && find . -exec stat -c '%n %F %u:%g %a %h %t,%T %Y' {} + | sort && find . -type f -exec sha256sum {} + | sort && find . -type l -exec readlink {} + | sort`

func (h *host) list(dir string) string {
	h.t.Helper()
	out, err := h.Exec(h.ctx, "sh", "-c", listing, "sh", dir)
	h.must(err)
	return out
}

// filler makes files of all kinds.
const filler = `cd /data
echo text >file; chmod 640 file; chown 12:34 file; ln file link
ln -s /nowhere/at/all symlink; mkfifo pipe; mknod null c 1 3
mkdir -p dir/empty; chmod 2770 dir; truncate -s 20M sparse; echo end >>sparse
touch -d '2001-02-03 04:05:06' file dir; chown 99:99 /data; chmod 750 /data`

// The order of docs/migrating.md.
func TestMigration(t *testing.T) {
	h := sharedHost(t)
	h.local("pgdata", filler)
	h.docker("run", "-d", "--name", "db", "--stop-signal", "KILL", "-v", "pgdata:/data", lab.BusyBox, "sh", "-c", idle)
	h.migrateFails([]string{"pgdata", "process", "stop the containers"}, "pgdata")
	want(t, "volumes of dvol", h.dvold("volume", "ls", "--output", "json"), "[]")
	h.docker("stop", "db")

	before := h.list(h.original("pgdata"))
	want(t, "dry run", strings.Join(strings.Fields(h.migrate("--all", "--dry-run")), " "), "NAME NOW pgdata yes")
	if out := h.migrate("pgdata"); !strings.Contains(out, "copied to pool local: 8 files") {
		t.Errorf("migrate says %q", out)
	}
	want(t, "original", h.list(h.original("pgdata")), before)
	want(t, "copy", h.list(h.data("pgdata")), before)
	h.migrateFails([]string{"exists already"}, "pgdata")
	want(t, "repeat with --all", h.migrate("--all"), "")

	// Until it is removed, the name means the original to the engine.
	want(t, "driver", h.docker("volume", "inspect", "-f", "{{.Driver}}", "pgdata"), "local")
	h.dockerFails([]string{"pgdata"}, "run", "--rm", "--volume-driver", "dvol", "-v", "pgdata:/data", lab.BusyBox, "true")
	h.docker("start", "db")
	h.docker("stop", "db")
	h.dockerFails([]string{"in use"}, "volume", "rm", "pgdata")
	h.docker("rm", "db")
	h.docker("volume", "rm", "pgdata")

	want(t, "driver", h.docker("volume", "inspect", "-f", "{{.Driver}}", "pgdata"), "dvol")
	want(t, "content", h.sh("cat /data/link; tail -c 4 /data/sparse", "-v", "pgdata:/data"), "text\nend")

	// And back.
	h.docker("volume", "create", "pgdata-local")
	h.docker("run", "--rm", "--mount", "type=volume,volume-driver=dvol,src=pgdata,dst=/from,readonly",
		"-v", "pgdata-local:/to", lab.BusyBox, "cp", "-a", "/from/.", "/to/")
	want(t, "content back", h.docker("run", "--rm", "-v", "pgdata-local:/data", lab.BusyBox, "cat", "/data/file"), "text")
}

func TestMigrationByMove(t *testing.T) {
	h := sharedHost(t)
	t.Cleanup(func() { unix.Rmdir(filepath.Join(h.StateDir(), "pools/local/migrated")) })
	h.local("site", filler)
	before := h.list(h.original("site"))
	want(t, "migrate", strings.Join(strings.Fields(h.migrate("--move", "site")), " "), "site moved to pool local")
	moved := filepath.Join(h.StateDir(), "pools/local/migrated/site")
	want(t, "moved data", h.list(moved), before)
	h.dockerFails([]string{"site"}, "run", "--rm", "-v", "site:/data", lab.BusyBox, "true") // no empty volume instead

	// Back, as if nothing had been.
	h.dvold("volume", "rm", "site")
	_, err := h.Exec(h.ctx, "mv", moved, h.original("site"))
	h.must(err)
	want(t, "content back", h.docker("run", "--rm", "-v", "site:/data", lab.BusyBox, "cat", "/data/file"), "text")

	h.migrate("--move", "site")
	h.docker("volume", "rm", "site")
	want(t, "content", h.sh("cat /data/link", "-v", "site:/data"), "text")
	want(t, "moved data", h.list(moved), before)
	h.docker("volume", "rm", "site")
	want(t, "moved data after the removal", h.list(moved), before) // it was adopted
	h.must(os.RemoveAll(moved))
}

func TestMigrationRefusesVolumesWithOptions(t *testing.T) {
	h := sharedHost(t)
	h.docker("volume", "create", "-o", "type=nfs", "-o", "o=addr=127.0.0.1", "-o", "device=:/export", "remote")
	h.docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m", "memory")
	h.migrateFails([]string{"remote", `type "nfs"`, `device ":/export"`}, "remote")
	h.migrateFails([]string{"memory", `type "tmpfs"`}, "memory")
	h.migrateFails([]string{"memory", `type "tmpfs"`}, "--move", "memory")
	h.migrateFails([]string{"memory", "remote"}, "--all")
	h.migrateFails([]string{"not among", "nobody"}, "nobody")
	h.migrateFails([]string{"is /nowhere its data root?"}, "--docker-root", "/nowhere", "x")
	var all []struct{ Name, Problem string }
	h.must(json.Unmarshal([]byte(h.migrate("--all", "--dry-run", "--output", "json")), &all))
	if len(all) != 2 || all[0].Problem == "" || all[1].Problem == "" {
		t.Errorf("dry run = %v, want two volumes with problems", all)
	}
	want(t, "volumes of dvol", h.dvold("volume", "ls", "--output", "json"), "[]")
}

// dvold is killed in the middle of a copy, which is noticed by the copy's size.
func TestMigrationAfterKill(t *testing.T) {
	h := ownHost(t)
	h.local("big", "mkdir /data/d; for i in $(seq 6000); do echo $i >/data/d/$i; done")
	before := h.list(h.original("big"))
	for _, restart := range []bool{true, false} {
		ended := make(chan error, 1)
		go func() {
			_, err := h.Dvold(context.WithoutCancel(h.ctx), h.migrateArgs("big")...)
			ended <- err
		}()
		h.eventually("copy has begun", func() bool {
			half, err := filepath.Glob(filepath.Join(h.StateDir(), "pools/local/volumes/big.*/d/*"))
			return err == nil && len(half) > 3
		})
		h.must(h.KillDvold())
		if err := <-ended; err == nil {
			t.Fatal("the migration had ended before dvold was killed: the test needs more data")
		}
		h.must(h.StartDvold(h.ctx))
		want(t, "volumes of dvol", h.dvold("volume", "ls", "--output", "json"), "[]")
		if restart { // what is left is cleared by the start alone
			h.eventually("half a copy is gone", func() bool {
				left, err := filepath.Glob(filepath.Join(h.StateDir(), "pools/local/*/big*"))
				return err == nil && len(left) == 0
			})
		}
	}
	h.migrate("big")
	want(t, "original", h.list(h.original("big")), before)
	want(t, "copy", h.list(h.data("big")), before)
	h.docker("volume", "rm", "big")
	want(t, "content", h.sh("ls /data/d | wc -l", "-v", "big:/data"), "6000")
}

// docs/migrating.md warns of a pool in Docker's own directory: this is why.
func TestDockerDeletesWhatWasAdoptedInPlace(t *testing.T) {
	h := ownHost(t)
	h.local("removed", "echo text >/data/file")
	h.local("pruned", "echo text >/data/file")
	config := h.scratch("dvold.yaml")
	h.must(os.WriteFile(config, []byte(fmt.Sprintf("pools: {docker: {type: local, path: %s}}\n", h.Path("docker/volumes"))), 0o644))
	h.must(h.StopDvold())
	h.must(h.StartDvold(h.ctx, "--config", config))
	for _, name := range []string{"removed", "pruned"} {
		h.dvold("volume", "create", name, "-o", "adopt="+name+"/_data")
	}
	h.docker("volume", "rm", "removed")
	h.docker("volume", "prune", "-f")
	for _, name := range []string{"removed", "pruned"} {
		if _, err := os.Stat(h.original(name, "file")); !os.IsNotExist(err) {
			t.Errorf("data adopted in place after docker volume rm or prune: %v, want none: correct docs/migrating.md", err)
		}
		h.dvold("volume", "rm", name)
	}
	h.create("other")
	h.must(h.StopDocker())
	h.must(h.StartDocker(h.ctx))
	locals := strings.Fields(h.docker("volume", "ls", "-q", "-f", "driver=local"))
	if want := []string{"descriptions", "volumes", "work"}; !slices.Equal(locals, want) {
		t.Errorf("Docker's local volumes = %v, want dvol's directories %v: correct docs/migrating.md", locals, want)
	}
	h.docker("volume", "rm", "other")
	h.dvold("trash", "purge", "--all") // before the sweep removes "volumes" with all in it
}

const composeProject = `
version: "3.4"
services:
  db:
    image: ` + lab.BusyBox + `
    command: ["sh", "-c", "echo up >>/data/log; exec sleep 1000"]
    stop_signal: KILL
    network_mode: none
    volumes: ["pgdata:/data"]
volumes:
  pgdata:%s
`

func TestMigrationOfComposeProject(t *testing.T) {
	h := sharedHost(t)
	needCompose(t)
	file := h.scratch("compose.yml")
	compose := func(volume string, args ...string) {
		t.Helper()
		h.must(os.WriteFile(file, []byte(fmt.Sprintf(composeProject, volume)), 0o644))
		_, err := h.Exec(h.ctx, append([]string{"docker-compose", "-p", "shop", "-f", file}, args...)...)
		h.must(err)
	}
	logged := func(lines string) {
		t.Helper()
		h.eventually("log of the service", func() bool {
			out, err := h.Docker(h.ctx, "exec", "shop_db_1", "cat", "/data/log")
			return err == nil && out == lines
		})
	}
	compose("", "up", "-d")
	logged("up")
	compose("", "down")
	h.migrate("shop_pgdata")
	h.docker("volume", "rm", "shop_pgdata")
	compose("\n    driver: dvol\n    name: shop_pgdata", "up", "-d")
	logged("up\nup")
	want(t, "driver", h.docker("volume", "inspect", "-f", "{{.Driver}}", "shop_pgdata"), "dvol")
	compose("\n    driver: dvol\n    name: shop_pgdata", "down", "-v")
}

// needCompose skips the test, or fails it, if there is no docker-compose.
func needCompose(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath("docker-compose")
	hosttest.Need(t, "docker", err == nil)
}
