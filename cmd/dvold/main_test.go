package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/volumes"
)

// world is a state directory with its sockets.
type world struct {
	t   *testing.T
	dir string
}

func newWorld(t *testing.T) *world {
	dir, err := os.MkdirTemp("", "dvold") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) }) // nothing is mounted in these tests
	return &world{t, dir}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) serveArgs() []string {
	return []string{"serve", "--host", "h1", "--state-dir", w.path("state"), "--run-dir", w.path("run"), "--docker-socket", w.path("docker.sock"), "--admin-socket", w.path("admin.sock")}
}

// serve runs the daemon until stop, which returns what it ended with.
func (w *world) serve() (stop func() error) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, w.serveArgs(), w.t.Output(), w.t.Output()) }()
	for {
		c, err := net.Dial("unix", w.path("admin.sock"))
		if err == nil {
			c.Close()
			break
		}
		select {
		case err := <-ended:
			w.t.Fatalf("dvold serve: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return func() error { cancel(); return <-ended }
}

// dvold runs an operator's command.
func (w *world) dvold(args ...string) (stdout string, err error) {
	var out bytes.Buffer
	err = run(w.t.Context(), append(args, "--admin-socket", w.path("admin.sock")), &out, w.t.Output())
	return out.String(), err
}

func (w *world) want(says string, args ...string) {
	w.t.Helper()
	out, err := w.dvold(args...)
	if err != nil || !strings.Contains(out, says) {
		w.t.Errorf("dvold %s: %v, printed %q; want %q", strings.Join(args, " "), err, out, says)
	}
	if strings.Contains(out, " \n") {
		w.t.Errorf("dvold %s: a line ends with a blank: %q", strings.Join(args, " "), out)
	}
}

func (w *world) wantError(says string, args ...string) {
	w.t.Helper()
	out, err := w.dvold(args...)
	if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "\n") {
		w.t.Errorf("dvold %s: printed %q, error %v; want one line that says %q", strings.Join(args, " "), out, err, says)
	}
}

func TestOperatorsDay(t *testing.T) {
	w := newWorld(t)
	stop := w.serve()
	w.want("data\n", "volume", "create", "data", "-o", "retain=true", "-o", "mode=0750")
	w.want("data  local  shared  0     ", "volume", "ls")
	w.want("mode=0750 retain=true", "volume", "inspect", "data")
	w.want("stays in the trash until an operator purges it", "volume", "inspect", "data")
	w.want("Mounted:       no", "volume", "inspect", "data")
	w.want(`"holders": []`, "volume", "inspect", "data", "--output", "json")
	w.want("this host", "host", "ls")
	w.want(`"live": true`, "host", "ls", "--output", "json")
	w.want("local  local  yes      24h0m0s    -       h1     "+w.path("state/pools/local"), "pool", "ls")
	w.want("Undo with: dvold trash restore data.", "volume", "rm", "data")
	w.wantError(`volume "data": no such volume`, "volume", "rm", "data")
	w.want("never", "trash", "ls")
	w.want("saved\n", "trash", "restore", "data", "--as", "saved")
	out, err := w.dvold("volume", "ls", "--output", "json")
	var all []volumes.Volume
	if err == nil {
		err = json.Unmarshal([]byte(out), &all)
	}
	if err != nil || len(all) != 1 || all[0].Name != "saved" {
		t.Errorf("volume ls as JSON: %v, %s", err, out)
	}
	if err := stop(); err != nil {
		t.Errorf("dvold serve ended with %v", err)
	}
	stop = w.serve()
	w.want("saved", "volume", "ls")
	w.want("", "volume", "rm", "saved")
	w.want("", "volume", "create", "other")
	w.want("", "volume", "rm", "other")
	w.want("other.", "trash", "purge", "--all")
	if out, err := w.dvold("trash", "ls", "--output", "json"); err != nil || out != "[]\n" {
		t.Errorf("trash after the purge: %q, %v", out, err)
	}
	if err := stop(); err != nil {
		t.Errorf("dvold serve ended with %v", err)
	}
	for _, socket := range []string{"docker.sock", "admin.sock"} {
		if _, err := os.Lstat(w.path(socket)); !os.IsNotExist(err) {
			t.Errorf("%s after the end: %v, want none", socket, err)
		}
	}
}

func TestOperatorsMistakes(t *testing.T) {
	w := newWorld(t)
	w.wantError("is dvold running, and are you root?", "volume", "ls")
	defer w.serve()()
	w.wantError("valid: access, adopt", "volume", "create", "data", "-o", "colour=red")
	w.wantError("give each as name=value", "volume", "create", "data", "-o", "colour")
	w.wantError("begin with a letter or digit", "volume", "create", "../../etc/x")
	w.wantError("no such volume", "volume", "inspect", "nobody")
	w.wantError("no such volume", "volume", "inspect", "../../v1/pools")
	w.wantError("not in the trash", "trash", "restore", "nobody")
	w.wantError("or --all", "trash", "purge")
	w.wantError("or --all", "trash", "purge", "x", "--all")
	w.wantError("not one of: table, json", "volume", "ls", "--output", "xml")
}

// The default pool of a test has no quotas: no limit can be taken away there, and
// none can be set. What resizing does is tested where there are.
func TestResize(t *testing.T) {
	w := newWorld(t)
	defer w.serve()()
	w.want("data", "volume", "create", "data")
	w.want("data  no limit\n", "volume", "resize", "data", "0")
	w.want(`"name": "data"`, "volume", "resize", "data", "0", "--output", "json")
	w.wantError("size: it was made without one", "volume", "resize", "data", "10GiB")
	w.wantError("want a number above 0", "volume", "resize", "data", "0G")
	w.wantError("no such volume", "volume", "resize", "nobody", "1G")
	w.want("Size:          no limit", "volume", "inspect", "data")
}

func TestSecondDaemonIsRefused(t *testing.T) {
	w := newWorld(t)
	defer w.serve()()
	err := run(t.Context(), w.serveArgs(), t.Output(), t.Output())
	if err == nil || !strings.Contains(err.Error(), "is in use by dvold process") {
		t.Errorf("second dvold on the same state: %v", err)
	}
	err = run(t.Context(), append(w.serveArgs(), "--state-dir", w.path("state2"), "--run-dir", w.path("run2")), t.Output(), t.Output())
	if err == nil || !strings.Contains(err.Error(), "answered by another daemon") {
		t.Errorf("second dvold on the same socket: %v", err)
	}
	w.want("", "volume", "ls")
}

func TestConfigCheck(t *testing.T) {
	w := newWorld(t)
	file := w.path("dvold.yaml")
	if err := os.WriteFile(w.path("token"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]string{
		"pools: {a: {type: local, path: /x}}":                                                                           "",
		"pools: {a: {type: floppy}}":                                                                                    `pool "a": type "floppy" is not one of: `,
		"pools: {a: {type: gluster}}":                                                                                   `pool "a": servers`,
		"pools: {a: {type: nfs}}":                                                                                       `pool "a": server: `,
		"pools: {a: {type: local, path: x}}":                                                                            `pool "a": path`,
		"pools:\n  a: {type: local}\n  b: {type: local}":                                                                "default_pool is not set",
		"pools: {a: {type: local, paht: /x}}":                                                                           "paht",
		"state_dir: /x/s\npools: {a: {type: local, path: /x/}}":                                                         `pool "a": its path /x has dvold's own state_dir in it, /x/s`,
		"coordination: {type: consul, addresses: ['https://127.0.0.1:1'], token_file: DIR/token}":                       "",
		"coordination: {type: consul, addresses: ['https://127.0.0.1:1'], token_file: DIR/missing}":                     "missing: no such file",
		"coordination: {type: consul, addresses: ['https://127.0.0.1:1'], ca_file: DIR/token}":                          "DIR/token",
		"coordination: {type: consul, addresses: ['https://127.0.0.1:1'], cert_file: DIR/missing, key_file: DIR/token}": "DIR/missing",
		"colour: red": ":1: unknown key colour",
	} {
		content, want = strings.ReplaceAll(content, "DIR", w.dir), strings.ReplaceAll(want, "DIR", w.dir)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		err := run(t.Context(), []string{"config", "check", "--config", file}, t.Output(), t.Output())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", content, err, want)
		}
	}
}
