package dockerapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/coordination/embedded"
	"github.com/dvol/dvold/internal/dockerapi"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/internal/volumes"
)

// TestMain lets the test program play another engine process, or a daemon that
// systemd starts.
func TestMain(m *testing.M) {
	switch os.Getenv("DVOLD_TEST_ROLE") {
	case "engine":
		os.Exit(playEngine(os.Args[1:]))
	case "activated":
		os.Exit(playActivated())
	}
	os.Exit(m.Run())
}

// playEngine makes one call: socket, call, body.
func playEngine(args []string) int {
	status, text, err := post(context.Background(), args[0], args[1], []byte(args[2]))
	if err != nil || status != http.StatusOK {
		fmt.Println(status, text, err)
		return 1
	}
	return 0
}

// otherEngine makes a call from a process of its own.
func otherEngine(t *testing.T, socket, call, body string) {
	t.Helper()
	c := exec.Command(os.Args[0], socket, call, body)
	c.Env = append(os.Environ(), "DVOLD_TEST_ROLE=engine")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s from another engine: %v: %s", call, err, out)
	}
}

// post makes a call as Docker's engine does.
func post(ctx context.Context, socket, call string, body []byte) (status int, text string, err error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin.moby.localhost/"+call, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Accept", "application/vnd.docker.plugins.v1.2+json")
	resp, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(answer), err
}

// daemon is a served Manager with a real pool, or what wrap makes of it.
type daemon struct {
	t       *testing.T
	dir     string
	socket  string
	pool    *hanging
	manager *volumes.Manager
	server  *dockerapi.Server
}

func start(t *testing.T, wrap func(dockerapi.Volumes) dockerapi.Volumes) *daemon {
	t.Helper()
	hosttest.Root(t)
	d := &daemon{t: t, dir: hosttest.Dir(t)}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx := context.WithoutCancel(t.Context())
	c := local.DefaultConfig()
	c.Path = filepath.Join(d.dir, "pool")
	pool, err := local.Open(c, log)
	d.must(err)
	d.pool = &hanging{Backend: pool}
	coord, err := embedded.Open(ctx, embedded.Config{Path: filepath.Join(d.dir, "cluster.db")}, log)
	d.must(err)
	d.manager, err = volumes.Open(ctx, volumes.Config{
		Host: "h1", StateDir: d.dir, RunDir: d.dir, DefaultPool: "local",
		Pools: []volumes.Pool{{Name: "local", Type: "local", Backend: d.pool, TrashTTL: time.Hour}},
	}, coord, log)
	d.must(err)
	var served dockerapi.Volumes = d.manager
	if wrap != nil {
		served = wrap(served)
	}
	d.socket = filepath.Join(d.dir, "plugins", "dvol.sock")
	l, err := dockerapi.Listen(d.socket)
	d.must(err)
	d.server = dockerapi.New(served, log)
	ended := make(chan error, 1)
	go func() { ended <- d.server.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		for _, err := range []error{d.server.Shutdown(ctx), <-ended, d.manager.Close(ctx), coord.Close()} {
			if err != nil {
				t.Errorf("end of the daemon: %v", err)
			}
		}
	})
	return d
}

func (d *daemon) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// call makes a call with arguments; the answer must be a success.
func (d *daemon) call(call string, args map[string]any) map[string]any {
	d.t.Helper()
	status, text := d.try(call, args)
	var answer map[string]any
	if err := json.Unmarshal([]byte(text), &answer); err != nil || status != http.StatusOK {
		d.t.Fatalf("%s: %d %s (%v)", call, status, text, err)
	}
	return answer
}

// try makes a call that may fail.
func (d *daemon) try(call string, args map[string]any) (status int, text string) {
	d.t.Helper()
	body, err := json.Marshal(args)
	d.must(err)
	status, text, err = post(d.t.Context(), d.socket, call, body)
	d.must(err)
	return status, text
}

func (d *daemon) mountpoints() []string {
	d.t.Helper()
	mounts, err := host.MountsBelow(filepath.Join(d.dir, "mnt"))
	d.must(err)
	var at []string
	for _, m := range mounts {
		at = append(at, m.Mountpoint)
	}
	return at
}

func (d *daemon) eventually(what string, is func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("still not so: %s", what)
		}
	}
}

// hanging is a pool whose mounts can be held up, without regard to ctx.
type hanging struct {
	backends.Backend
	began chan struct{} // told of each mount; nil: nobody wants to know
	hold  chan struct{} // mounts wait until it is closed; nil: they don't
}

func (h *hanging) Mount(ctx context.Context, handle, target string, o backends.MountOptions) error {
	if h.began != nil {
		h.began <- struct{}{}
		<-h.hold
	}
	return h.Backend.Mount(context.WithoutCancel(ctx), handle, target, o)
}

// errText is the Err of an answer, which must be one short line.
func errText(t *testing.T, text string) string {
	t.Helper()
	var answer struct{ Err string }
	if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.Err == "" {
		t.Errorf("answer %.200q has no Err", text)
	}
	if strings.ContainsAny(answer.Err, "\n\x00") || len(answer.Err) > 600 {
		t.Errorf("error is not one short line: %q", answer.Err)
	}
	return answer.Err
}
