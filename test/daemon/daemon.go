// Package daemon runs a dvold in a guest, calls it as Docker does, and runs a Docker
// engine beside it.
package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	"github.com/dvol/dvold/internal/host/guesttest"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// Build builds dvold where guests see it, as this test was built but for variables of the
// environment, and returns its path.
func Build(t *testing.T, environment ...string) (binary string) {
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
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-tags="+guesttest.Tags(), "-o", binary, "github.com/dvol/dvold/cmd/dvold")
	build.Env = append(os.Environ(), environment...)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build dvold: %v: %s", err, out)
	}
	return binary
}

// Daemon is a dvold, which may be started again.
type Daemon struct {
	t      *testing.T
	binary string
	host   string
	dir    string // of all that it has
	cmd    *exec.Cmd
	client http.Client
}

// New starts a dvold that ends with the test: a host's, with this configuration.
func New(t *testing.T, binary, host, configuration string) *Daemon {
	t.Helper()
	d := &Daemon{t: t, binary: binary, host: host, dir: hosttest.Dir(t)}
	if err := os.MkdirAll(filepath.Dir(driverSocket), 0o755); err != nil {
		t.Fatal(err)
	}
	d.client.Transport = &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", driverSocket)
		},
	}
	if err := os.WriteFile(d.at("dvold.yaml"), []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Start()
	t.Cleanup(func() {
		if err := d.end(unix.SIGTERM); err != nil {
			t.Errorf("dvold ended with %v", err)
		}
	})
	return d
}

func (d *Daemon) at(name string) string { return filepath.Join(d.dir, name) }

// Start starts the daemon, and returns once it answers.
func (d *Daemon) Start() {
	d.t.Helper()
	d.cmd = d.run("serve")
	d.within("dvold answers", func() bool {
		_, err := d.call("Plugin.Activate", nil)
		return err == nil
	})
}

// Guard runs a guard beside the daemon, until the test ends.
func (d *Daemon) Guard() {
	d.t.Helper()
	cmd := d.run("guard")
	d.t.Cleanup(func() {
		if err := errors.Join(cmd.Process.Signal(unix.SIGTERM), cmd.Wait()); err != nil {
			d.t.Errorf("the guard ended with %v", err)
		}
	})
	d.within("the guard guards", func() bool {
		_, err := os.Stat(d.at("run/guard/outcomes.json"))
		return err == nil
	})
}

// run starts a command of dvold's with the daemon's configuration.
func (d *Daemon) run(command string) *exec.Cmd {
	d.t.Helper()
	cmd := exec.Command(d.binary, command, "--host", d.host, "--config", d.at("dvold.yaml"), "--state-dir", d.at("state"), "--run-dir", d.at("run"),
		"--docker-socket", driverSocket, "--admin-socket", d.at("admin.sock"))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	return cmd
}

// Kill ends the daemon as a crash does.
func (d *Daemon) Kill() { _ = d.end(unix.SIGKILL) } // which it reports

// end ends the daemon by a signal, and returns what it ended with.
func (d *Daemon) end(signal os.Signal) error {
	return errors.Join(d.cmd.Process.Signal(signal), d.cmd.Wait())
}

// call calls the daemon as Docker does, and returns its answer.
func (d *Daemon) call(what string, args map[string]any) (answer map[string]any, err error) {
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

// Driver calls the daemon about a volume, and returns its answer.
func (d *Daemon) Driver(what, name string, args map[string]any) (map[string]any, error) {
	all := map[string]any{"Name": name}
	for key, value := range args {
		all[key] = value
	}
	return d.call("VolumeDriver."+what, all)
}

// Must is Driver for what has to succeed.
func (d *Daemon) Must(what, name string, args map[string]any) map[string]any {
	d.t.Helper()
	answer, err := d.Driver(what, name, args)
	if err != nil {
		d.t.Fatalf("%s %s: %v", what, name, err)
	}
	return answer
}

// Create makes a volume with these options.
func (d *Daemon) Create(name string, options map[string]string) {
	d.t.Helper()
	d.Must("Create", name, map[string]any{"Opts": options})
}

// Mount mounts a volume for a container, and returns where.
func (d *Daemon) Mount(name, container string) string {
	d.t.Helper()
	at, _ := d.Must("Mount", name, By(container))["Mountpoint"].(string)
	if m, err := host.MountedAt(at); err != nil || m == nil {
		d.t.Fatalf("mount %s: at %q there is %v, %v", name, at, m, err)
	}
	return at
}

// Mountpoint is where a volume is mounted, as the daemon says.
func (d *Daemon) Mountpoint(name string) string {
	d.t.Helper()
	at, _ := d.Must("Get", name, nil)["Volume"].(map[string]any)["Mountpoint"].(string)
	return at
}

// HandOver has volumes, which are mounted where the map says for container a, mounted there
// for container b instead.
func (d *Daemon) HandOver(at map[string]string) {
	d.t.Helper()
	for name, dir := range at {
		if got := d.Mountpoint(name); got != dir {
			d.t.Errorf("%s is at %v, want %s", name, got, dir)
		}
		if got := d.Mount(name, "b"); got != dir {
			d.t.Errorf("%s is mounted at %s, too, not %s", name, got, dir)
		}
		d.Must("Unmount", name, By("a"))
	}
}

// MountSilent mounts a volume whose storage is silent, and returns the error. Meanwhile the
// daemon answers what others ask of a volume in another pool, and of some.
func (d *Daemon) MountSilent(name, other string, some ...string) error {
	d.t.Helper()
	failed := make(chan error, 1)
	go func() {
		_, err := d.Driver("Mount", name, By("c"))
		failed <- err
	}()
	for n := range 5 {
		begin := time.Now()
		d.Must("Mount", other, By("c"))
		for _, asked := range append(some, other, name) {
			d.Must("Get", asked, nil)
		}
		d.Must("List", "", nil)
		d.Must("Unmount", other, By("c"))
		d.t.Logf("round %d took %v", n, time.Since(begin).Round(time.Millisecond))
	}
	return <-failed
}

// By is that a container, with a name of one character, mounts or unmounts.
func By(container string) map[string]any {
	return map[string]any{"ID": strings.Repeat(container, 64)}
}

// Unmounted returns once nothing is mounted at a directory: dvold tries again if it has
// to.
func (d *Daemon) Unmounted(dir string) {
	d.t.Helper()
	d.within(dir+" is unmounted", func() bool {
		m, err := host.MountedAt(dir)
		return err == nil && m == nil
	})
}

// Idle returns once the daemon has nothing mounted.
func (d *Daemon) Idle() {
	d.t.Helper()
	var left []string
	d.t.Cleanup(func() {
		if len(left) > 0 {
			d.t.Logf("mounted are %v", left)
		}
	})
	d.within("nothing is mounted", func() bool {
		mounts, err := host.MountsBelow(d.at("run"))
		left = nil
		for _, m := range mounts {
			left = append(left, m.Mountpoint)
		}
		return err == nil && len(mounts) == 0
	})
}

// Purge empties the trash.
func (d *Daemon) Purge() {
	d.t.Helper()
	purge := exec.Command(d.binary, "trash", "purge", "--all", "--admin-socket", d.at("admin.sock"))
	if out, err := purge.CombinedOutput(); err != nil {
		d.t.Errorf("purge: %v: %s", err, out)
	}
}

func (d *Daemon) within(what string, holds func() bool) {
	d.t.Helper()
	const patience = 5 * time.Minute // a guest is slow on a machine that has much to do
	for end := time.Now().Add(patience); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			d.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
