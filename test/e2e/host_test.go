package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// patience bounds every wait for something that should happen soon.
const patience = 20 * time.Second

// host is a lab.Host whose failures end the test.
type host struct {
	*lab.Host
	t   *testing.T
	ctx context.Context
}

func newHost(t *testing.T, h *lab.Host) *host {
	t.Cleanup(func() { (&host{h, t, context.Background()}).sweep() })
	return &host{h, t, t.Context()}
}

// sweep removes all containers and volumes, and reports what is left of them.
func (h *host) sweep() {
	h.t.Helper()
	if ids := strings.Fields(h.docker("ps", "-aq")); len(ids) > 0 {
		h.docker(append([]string{"rm", "-f", "-v"}, ids...)...)
	}
	if names := strings.Fields(h.docker("volume", "ls", "-q")); len(names) > 0 {
		h.docker(append([]string{"volume", "rm"}, names...)...)
	}
	if out := h.dvold("volume", "ls", "--output", "json"); out != "[]" {
		h.t.Errorf("volumes are left over: %s", out)
	}
	h.dvold("trash", "purge", "--all")
	h.wantMounts(0)
	for _, pattern := range []string{h.Path("run/dvol/mnt/*"), filepath.Join(h.StateDir(), "pools/*/*/*")} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			h.t.Errorf("files are left over: %v (%v)", left, err)
		}
	}
	h.wantNoRaces()
}

// wantNoRaces reports what the race detector found in dvold.
func (h *host) wantNoRaces() {
	h.t.Helper()
	reports, err := filepath.Glob(h.Path("race.*"))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, file := range reports {
		report, err := os.ReadFile(file)
		h.t.Errorf("data race in dvold: %s %v", report, err)
	}
}

// docker runs a docker command that must succeed.
func (h *host) docker(args ...string) string {
	h.t.Helper()
	out, err := h.Docker(h.ctx, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// dockerFails runs a docker command that must not succeed, with an error that
// has the given words.
func (h *host) dockerFails(words []string, args ...string) {
	h.t.Helper()
	_, err := h.Docker(h.ctx, args...)
	h.wantError(err, words, "docker "+strings.Join(args, " "))
}

// dvold runs a dvold command that must succeed.
func (h *host) dvold(args ...string) string {
	h.t.Helper()
	out, err := h.Dvold(h.ctx, args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

func (h *host) wantError(err error, words []string, what string) {
	h.t.Helper()
	if err == nil {
		h.t.Errorf("%s succeeded, want an error", what)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			h.t.Errorf("%s: %v; want %q in it", what, err, word)
		}
	}
}

// create makes a volume.
func (h *host) create(name string, args ...string) {
	h.t.Helper()
	h.docker(append(append([]string{"volume", "create", "-d", "dvol"}, args...), name)...)
}

// sh runs a script in a new container, with docker's arguments, and returns
// what it prints.
func (h *host) sh(script string, args ...string) string {
	h.t.Helper()
	args = append([]string{"run", "--rm", "--network", "host", "--volume-driver", "dvol"}, args...)
	return h.docker(append(args, lab.BusyBox, "sh", "-c", script)...)
}

// start starts a container that runs a script, with docker's arguments.
func (h *host) start(name, script string, args ...string) {
	h.t.Helper()
	args = append([]string{"run", "-d", "--name", name, "--network", "host", "--volume-driver", "dvol", "--stop-signal", "KILL"}, args...)
	h.docker(append(args, lab.BusyBox, "sh", "-c", script)...)
}

// idle is the script of a container that does nothing.
const idle = "exec sleep 1000"

// beat is the script of a container that goes on writing to /data/beats.
const beat = "while :; do echo x >>/data/beats || exit 1; sleep 0.02; done"

// wantBeating waits until the container has written something more.
func (h *host) wantBeating(container string) {
	h.t.Helper()
	var first, size string
	var err error
	h.eventually("writing of "+container, func() bool {
		size, err = h.Docker(h.ctx, "exec", container, "wc", "-c", "/data/beats")
		if first == "" {
			first = size // none before the first beat
		}
		return err == nil && size != first
	}, func() any { return fmt.Sprintf("%s bytes, %v", size, err) })
}

// data is the directory that holds a volume's files.
func (h *host) data(name string) string {
	h.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(h.StateDir(), "pools/local/volumes", name+".????????????"))
	if err != nil || len(dirs) != 1 {
		h.t.Fatalf("directories of volume %s = %v (%v), want one", name, dirs, err)
	}
	return dirs[0]
}

// wantMounts waits until n volumes are mounted.
func (h *host) wantMounts(n int) {
	h.t.Helper()
	var mounts []string
	h.eventually("number of mounts", func() bool {
		var err error
		mounts, err = h.Mounts("/run/dvol/mnt")
		if err != nil {
			h.t.Fatal(err)
		}
		return len(mounts) == n
	}, func() any { return mounts })
}

// volume is what the tests read of dvold's description of a volume.
type volume struct {
	Name       string
	ID         string
	Pool       string
	Mountpoint string
	Mounted    bool
	Options    map[string]string
	Uses       []struct {
		MountID string `json:"mount_id"`
		Count   int
	}
}

// inspect asks dvold about a volume.
func (h *host) inspect(name string) volume {
	h.t.Helper()
	var v volume
	if err := json.Unmarshal([]byte(h.dvold("volume", "inspect", name, "--output", "json")), &v); err != nil {
		h.t.Fatal(err)
	}
	return v
}

// wantUses checks that dvold knows of n uses of a volume, each counted once.
func (h *host) wantUses(name string, n int) {
	h.t.Helper()
	uses := h.inspect(name).Uses
	if len(uses) != n {
		h.t.Errorf("uses of %s = %v, want %d", name, uses, n)
	}
	for _, u := range uses {
		if u.Count != 1 {
			h.t.Errorf("a use of %s counts %d, want 1", name, u.Count)
		}
	}
}

// eventually waits for cond to become true. The state, if given, is shown when
// it doesn't.
func (h *host) eventually(what string, cond func() bool, state ...func() any) {
	h.t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().Before(deadline) {
			continue
		}
		for _, s := range state {
			h.t.Errorf("%s: %v", what, s())
		}
		h.t.Fatalf("%s: not as wanted within %v", what, patience)
	}
}

// must ends the test on an error.
func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// want compares an output.
func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s = %q, want %q", what, got, want)
	}
}
