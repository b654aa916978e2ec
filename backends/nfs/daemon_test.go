package nfs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// dvoldBinary is set in the environment of the guest with the server.
const dvoldBinary = "DVOLD_NFS_BINARY"

// buildDvold builds dvold where guests see it, and returns its path.
func buildDvold(t *testing.T) (binary string) {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "dvold-test-") // not in /tmp, where guests have their own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	binary = filepath.Join(dir, "dvold")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", binary, "github.com/dvol/dvold/cmd/dvold")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is shipped
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build dvold: %v: %s", err, out)
	}
	return binary
}

// dvold is the daemon, which may be started again.
type dvold struct {
	t      *testing.T
	dir    string // of all that it has
	cmd    *exec.Cmd
	client http.Client
}

// newDvold starts one that ends with the test, with these pools.
func newDvold(t *testing.T, pools string) *dvold {
	t.Helper()
	d := &dvold{t: t, dir: hosttest.Dir(t)}
	d.client.Transport = &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(d.dir, "docker.sock"))
		},
	}
	if err := os.WriteFile(filepath.Join(d.dir, "dvold.yaml"), []byte(pools), 0o600); err != nil {
		t.Fatal(err)
	}
	d.start()
	t.Cleanup(func() {
		if err := d.end(unix.SIGTERM); err != nil {
			t.Errorf("dvold ended with %v", err)
		}
	})
	return d
}

func (d *dvold) start() {
	d.t.Helper()
	at := func(name string) string { return filepath.Join(d.dir, name) }
	d.cmd = exec.Command(os.Getenv(dvoldBinary), "serve", "--host", "h1", "--config", at("dvold.yaml"), "--state-dir", at("state"), "--run-dir", at("run"),
		"--docker-socket", at("docker.sock"), "--admin-socket", at("admin.sock"))
	d.cmd.Stdout, d.cmd.Stderr = os.Stdout, os.Stdout
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		_, err := d.call("Plugin.Activate", nil)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			d.t.Fatalf("dvold does not come up: %v", err)
		}
	}
}

// end ends the daemon by a signal, and returns what it ended with.
func (d *dvold) end(signal os.Signal) error {
	return errors.Join(d.cmd.Process.Signal(signal), d.cmd.Wait())
}

// call calls the daemon as Docker does, and returns its answer.
func (d *dvold) call(what string, args map[string]any) (answer map[string]any, err error) {
	text, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(d.t.Context(), 2*time.Minute) // as Docker
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://dvold/"+what, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	response, err := d.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if text, err = io.ReadAll(response.Body); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, err
	}
	if message, _ := answer["Err"].(string); message != "" || response.StatusCode != http.StatusOK {
		return nil, errors.New(message)
	}
	return answer, nil
}

// driver calls the daemon about a volume.
func (d *dvold) driver(what, name string, args map[string]any) (map[string]any, error) {
	all := map[string]any{"Name": name}
	for key, value := range args {
		all[key] = value
	}
	return d.call("VolumeDriver."+what, all)
}

// must is driver for what has to succeed.
func (d *dvold) must(what, name string, args map[string]any) map[string]any {
	d.t.Helper()
	answer, err := d.driver(what, name, args)
	if err != nil {
		d.t.Fatalf("%s %s: %v", what, name, err)
	}
	return answer
}

// mounted mounts a volume for a container, and returns where.
func (d *dvold) mounted(name, container string) string {
	d.t.Helper()
	at, _ := d.must("Mount", name, by(container))["Mountpoint"].(string)
	if m, err := host.MountedAt(at); err != nil || m == nil {
		d.t.Fatalf("mount %s: at %q there is %v, %v", name, at, m, err)
	}
	return at
}

// by is that a container mounts or unmounts.
func by(container string) map[string]any {
	return map[string]any{"ID": strings.Repeat(container, 64)}
}

// dvold leads volumes of the server through their lives, and through its own death.
func testDaemon(t *testing.T, s server) {
	c := newPool(t, s.exported, "4.2")
	d := newDvold(t, fmt.Sprintf("default_pool: nas\npools:\n  nas: {type: nfs, server: %s, export: %s, subdir: %s, mount_timeout: 3s, mount_grace: 0s}\n  disk: {type: local, path: %s}\n",
		c.Server, c.Export, c.Subdir, hosttest.Subdir(t, hosttest.Dir(t), "disk")))
	there := filepath.Join(s.exported, c.Subdir)
	d.must("Create", "shared", map[string]any{"Opts": map[string]string{"uid": "999"}})
	d.must("Create", "own", map[string]any{"Opts": map[string]string{"access": "exclusive"}})
	d.must("Create", "other", map[string]any{"Opts": map[string]string{"pool": "disk"}})
	at := map[string]string{}
	for _, name := range []string{"shared", "own"} {
		at[name] = d.mounted(name, "a")
		writeFile(t, filepath.Join(at[name], "file"))
	}

	_ = d.end(unix.SIGKILL) // which it reports
	var writers []*writer
	for name, dir := range at {
		in, err := filepath.Glob(filepath.Join(there, "volumes", name+".*"))
		if err != nil || len(in) != 1 {
			t.Fatalf("%s is %v, %v", name, in, err)
		}
		writers = append(writers, startWriter(t, filepath.Join(dir, "written"), filepath.Join(in[0], "written")))
	}
	awaitLines(t, writers, 3)
	d.start()
	for name, dir := range at {
		if got := d.must("Get", name, nil)["Volume"].(map[string]any)["Mountpoint"]; got != dir {
			t.Errorf("%s is at %v, want %s", name, got, dir)
		}
		if got := d.mounted(name, "b"); got != dir {
			t.Errorf("%s is mounted at %s, too, not %s", name, got, dir)
		}
		d.must("Unmount", name, by("a"))
	}
	awaitLines(t, writers, 3)

	t.Run("silent server", func(t *testing.T) { testSilent(t, s, d) })

	awaitLines(t, writers, 3)
	for _, w := range writers {
		w.check(t)
	}
	for name, dir := range at {
		d.must("Unmount", name, by("b"))
		for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) { // it tries again if it has to
			m, err := host.MountedAt(dir)
			if err == nil && m == nil {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s is still mounted: %v, %v", name, m, err)
			}
		}
		d.must("Remove", name, nil)
	}
	purge := exec.Command(os.Getenv(dvoldBinary), "trash", "purge", "--all", "--admin-socket", filepath.Join(d.dir, "admin.sock"))
	if out, err := purge.CombinedOutput(); err != nil {
		t.Errorf("purge: %v: %s", err, out)
	}
	for _, dir := range []string{"volumes", "work"} {
		if left, err := os.ReadDir(filepath.Join(there, dir)); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		mounts, err := host.MountsBelow(filepath.Join(d.dir, "run"))
		if err == nil && len(mounts) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("mounts are left: %v, %v", mounts, err)
		}
	}
}

// While the server is silent another pool's calls are answered, and those that need
// the server fail.
func testSilent(t *testing.T, s server, d *dvold) {
	d.must("Create", "third", nil)
	defer d.must("Remove", "third", nil)
	defer s.freeze(t)()
	failed := make(chan error, 1)
	go func() {
		_, err := d.driver("Mount", "third", by("c"))
		failed <- err
	}()
	for n := range 5 {
		begin := time.Now()
		d.must("Mount", "other", by("c"))
		d.must("Get", "other", nil)
		d.must("Get", "third", nil)
		d.must("List", "", nil)
		d.must("Unmount", "other", by("c"))
		t.Logf("round %d took %v", n, time.Since(begin).Round(time.Millisecond))
	}
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "gives no answer") {
		t.Errorf("mount: got %v", err)
	}
}
