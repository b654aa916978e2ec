package dockerapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dvol/dvold/internal/dockerapi"
	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/volumes"
)

// TestConversation is the engine's usual day.
func TestConversation(t *testing.T) {
	d := start(t, nil)
	if status, text, err := post(t.Context(), d.socket, "Plugin.Activate", nil); err != nil || status != 200 || text != `{"Implements":["VolumeDriver"]}` {
		t.Errorf("activate: %d %s %v", status, text, err)
	}
	if _, text := d.try("VolumeDriver.Capabilities", map[string]any{}); text != `{"Capabilities":{"Scope":"global"}}` {
		t.Errorf("capabilities: %s", text)
	}
	if _, text := d.try("VolumeDriver.List", map[string]any{}); text != `{"Volumes":[]}` {
		t.Errorf("empty list: %s", text)
	}
	name := map[string]any{"Name": "data"}
	if status, text := d.try("VolumeDriver.Get", name); status != 500 || !strings.Contains(errText(t, text), "no such volume") {
		t.Errorf("get of the unknown: %d %s", status, text)
	}
	d.call("VolumeDriver.Create", map[string]any{"Name": "data", "Opts": map[string]string{"uid": "7"}})
	v := d.call("VolumeDriver.Get", name)["Volume"].(map[string]any)
	if _, err := time.Parse(time.RFC3339, v["CreatedAt"].(string)); err != nil {
		t.Errorf("CreatedAt: %v: the engine would take the volume for gone", err)
	}
	status := v["Status"].(map[string]any)
	if status["pool"] != "local" || status["options"].(map[string]any)["uid"] != "7" {
		t.Errorf("status is %v", status)
	}
	path := d.call("VolumeDriver.Path", name)["Mountpoint"]
	if path != v["Mountpoint"] || path == "" || status["mounted"] != false {
		t.Errorf("before the mount: path %v, volume %v", path, v)
	}
	mount := map[string]any{"Name": "data", "ID": "b9d5c2"}
	target := d.call("VolumeDriver.Mount", mount)["Mountpoint"].(string)
	if at := d.mountpoints(); len(at) != 1 || at[0] != target || target != path {
		t.Errorf("mount says %s, the path was %s, the kernel says %v", target, path, at)
	}
	if got := d.call("VolumeDriver.Path", name)["Mountpoint"]; got != target {
		t.Errorf("path after the mount: %v, want %s", got, target)
	}
	listed := d.call("VolumeDriver.List", map[string]any{})["Volumes"].([]any)
	if len(listed) != 1 || listed[0].(map[string]any)["Name"] != "data" {
		t.Errorf("list: %v", listed)
	}
	d.call("VolumeDriver.Unmount", mount)
	d.call("VolumeDriver.Unmount", mount)
	if at := d.mountpoints(); len(at) != 0 {
		t.Errorf("mounted after the unmount: %v", at)
	}
	d.call("VolumeDriver.Remove", name)
	d.call("VolumeDriver.Remove", name)
	if status, _ := d.try("VolumeDriver.Get", name); status != 500 {
		t.Errorf("get of the removed: %d", status)
	}
}

func TestHostileNames(t *testing.T) {
	d := start(t, nil)
	for what, name := range map[string]string{
		"one letter": "a", "traversal": "../../etc/x", "absolute": "/etc", "slash": "a/b", "dots": "..",
		"NUL": "a\x00b", "control": "a\x1b[2Jb", "newline": "a\nb", "space": "a b", "leading dash": "-rf",
		"look-alike": "dаta", "right to left": "a\u202eb", "long": strings.Repeat("x", 201), "40,000 bytes": strings.Repeat("x", 40000),
	} {
		args := map[string]any{"Name": name, "ID": "c1"}
		for _, call := range []string{"Create", "Mount", "Get", "Path"} {
			if status, text := d.try("VolumeDriver."+call, args); status != 500 {
				t.Errorf("%s of %s: %d %s", call, what, status, text)
			} else {
				errText(t, text)
			}
		}
		for _, call := range []string{"Unmount", "Remove"} {
			if status, text := d.try("VolumeDriver."+call, args); status != 200 {
				t.Errorf("%s of %s: %d %s", call, what, status, text)
			}
		}
	}
	if made, err := os.ReadDir(filepath.Join(d.dir, "pool")); err == nil && len(made) > 0 {
		t.Errorf("in the pool: %v", made)
	}
	if all := d.call("VolumeDriver.List", map[string]any{})["Volumes"].([]any); len(all) != 0 {
		t.Errorf("listed: %v", all)
	}
}

func TestHostileBodies(t *testing.T) {
	d := start(t, nil)
	d.call("VolumeDriver.Create", map[string]any{"Name": "data"})
	d.call("VolumeDriver.Mount", map[string]any{"Name": "data", "ID": "c1"})
	for what, body := range map[string]string{
		"empty":         "",
		"white space":   " \n",
		"truncated":     `{"Name":"data","ID":"c`,
		"trailing":      `{"Name":"data","ID":"c1"} {"Name":"data","ID":"c1"}`,
		"garbage":       "\x00\xff\x17",
		"a number":      `{"Name":5,"ID":"c1"}`,
		"an array":      `["data"]`,
		"null":          `null`,
		"no name":       `{"ID":"c1"}`,
		"foreign":       `{"jsonrpc":"2.0","method":"x"}`,
		"wrong options": `{"Name":["x"]}`,
		"64 MiB":        `{"Name":"data","ID":"` + strings.Repeat("x", 64<<20) + `"}`,
	} {
		for _, call := range []string{"Create", "Mount", "Unmount", "Remove", "Path", "Get"} {
			status, text, err := post(t.Context(), d.socket, "VolumeDriver."+call, []byte(body))
			switch {
			case what == "64 MiB" && err != nil: // hung up on while it was sending
			case call == "Get" && strings.TrimSpace(body) == "":
				// The engine repeats a call it lost with an empty body, and
				// would take any error for "does not exist".
				if err == nil {
					t.Errorf("get with %s body was answered: %d %s", what, status, text)
				}
			case err != nil || status < 400:
				t.Errorf("%s with %s body: %d %.200s %v", call, what, status, text, err)
			default:
				errText(t, text)
			}
		}
	}
	v := d.call("VolumeDriver.Get", map[string]any{"Name": "data"})["Volume"].(map[string]any)
	if at := d.mountpoints(); len(at) != 1 || v["Mountpoint"] != at[0] {
		t.Errorf("after all that: %v, mounted %v", v, at)
	}
	d.call("VolumeDriver.Unmount", map[string]any{"Name": "data", "ID": "c1"})
}

func TestOtherRequests(t *testing.T) {
	d := start(t, nil)
	if status, text := d.try("VolumeDriver.Nonsense", nil); status != 404 {
		t.Errorf("unknown call: %d %s", status, text)
	}
	dial := func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", d.socket) }
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	for _, call := range []string{"Plugin.Activate", "VolumeDriver.List", "VolumeDriver.Get"} {
		resp, err := client.Get("http://x/" + call)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("GET %s: %s", call, resp.Status)
		}
	}
}

// TestClientHangsUpDuringMount: the engine sends no Unmount for a Mount it
// gave up on.
func TestClientHangsUpDuringMount(t *testing.T) {
	d := start(t, nil)
	d.call("VolumeDriver.Create", map[string]any{"Name": "data"})
	d.pool.began, d.pool.hold = make(chan struct{}), make(chan struct{})
	ctx, hangUp := context.WithCancel(t.Context())
	go func() { <-d.pool.began; hangUp() }()
	if _, _, err := post(ctx, d.socket, "VolumeDriver.Mount", []byte(`{"Name":"data","ID":"c1"}`)); err == nil {
		t.Fatal("the mount was answered")
	}
	close(d.pool.hold)
	left := func() bool {
		all, err := os.ReadDir(filepath.Join(d.dir, "mnt"))
		return err == nil && len(all) == 0
	}
	d.eventually("the mount is undone", left)
	v, err := d.manager.Get(t.Context(), "data")
	if err != nil || len(v.Uses) != 0 {
		t.Errorf("after the mount was undone: %+v, %v", v, err)
	}
}

func TestSameIDFromRestartedEngine(t *testing.T) {
	d := start(t, nil)
	mount := `{"Name":"data","ID":"c1"}`
	args := map[string]any{"Name": "data", "ID": "c1"}
	d.call("VolumeDriver.Create", args)
	otherEngine(t, d.socket, "VolumeDriver.Mount", mount) // which crashes
	d.call("VolumeDriver.Mount", args)                    // sent again by the new one
	d.call("VolumeDriver.Unmount", args)
	if at := d.mountpoints(); len(at) != 0 {
		t.Errorf("still mounted: %v", at)
	}
	d.call("VolumeDriver.Mount", args)
	d.call("VolumeDriver.Mount", args) // docker cp
	d.call("VolumeDriver.Unmount", args)
	if at := d.mountpoints(); len(at) != 1 {
		t.Errorf("unmounted by the end of docker cp: %v", at)
	}
	d.call("VolumeDriver.Unmount", args)
}

func TestParallelCalls(t *testing.T) {
	d := start(t, nil)
	d.call("VolumeDriver.Create", map[string]any{"Name": "data"})
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			body := []byte(fmt.Sprintf(`{"Name":"data","ID":"c%d"}`, i))
			for _, call := range []string{"Mount", "Get", "List", "Unmount"} {
				if status, text, err := post(t.Context(), d.socket, "VolumeDriver."+call, body); err != nil || status != 200 {
					t.Errorf("%s: %d %s %v", call, status, text, err)
				}
			}
		})
	}
	wg.Wait()
	if at := d.mountpoints(); len(at) != 0 {
		t.Errorf("still mounted: %v", at)
	}
}

// faulty is a Manager with a bug or a coordinator that does not answer.
type faulty struct {
	dockerapi.Volumes
}

func (faulty) Get(_ context.Context, name string) (volumes.Volume, error) {
	if name == "bug" {
		panic("a bug")
	}
	return volumes.Volume{}, fmt.Errorf("coordinator: %w", volumes.ErrUnavailable)
}

func (faulty) Mount(context.Context, string, string, host.Process) (string, error) {
	panic("a bug")
}

func (faulty) Create(context.Context, string, map[string]string) error {
	return errors.Join(errors.New("first\nline"), errors.New("second line"))
}

func TestFaults(t *testing.T) {
	d := start(t, func(v dockerapi.Volumes) dockerapi.Volumes { return faulty{v} })
	for _, name := range []string{"data", "bug"} {
		if status, text, err := post(t.Context(), d.socket, "VolumeDriver.Get", []byte(`{"Name":"`+name+`"}`)); err == nil {
			t.Errorf("get of %s without knowing was answered: %d %s", name, status, text)
		}
	}
	if status, text := d.try("VolumeDriver.Mount", map[string]any{"Name": "data"}); status != 500 || !strings.Contains(errText(t, text), "internal error") {
		t.Errorf("call that panics: %d %s", status, text)
	}
	if _, text := d.try("VolumeDriver.Create", map[string]any{"Name": "data"}); errText(t, text) != "first; line; second line" {
		t.Errorf("error of several lines: %s", text)
	}
	d.call("VolumeDriver.List", map[string]any{})
}

// TestRequestCutShort: of a Get, an error would mean "does not exist".
func TestRequestCutShort(t *testing.T) {
	d := start(t, nil)
	for call, want := range map[string]string{"Get": "", "Path": "HTTP/1.1 400 "} {
		c, err := net.Dial("unix", d.socket)
		d.must(err)
		defer c.Close()
		_, err = fmt.Fprintf(c, "POST /VolumeDriver.%s HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{\"Name\":", call)
		d.must(err)
		d.must(c.(*net.UnixConn).CloseWrite())
		answer, err := io.ReadAll(c)
		if got := string(answer); err != nil || !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s cut short: got %q, %v, want %q", call, got, err, want)
		}
	}
}

// TestNoIdleConnections that a drain could close under the engine's next call.
func TestNoIdleConnections(t *testing.T) {
	d := start(t, nil)
	dialed := 0
	dial := func(context.Context, string, string) (net.Conn, error) { dialed++; return net.Dial("unix", d.socket) }
	client := http.Client{Transport: &http.Transport{DialContext: dial}}
	for range 3 {
		resp, err := client.Post("http://x/Plugin.Activate", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if dialed != 3 {
		t.Errorf("3 calls on %d connections, want one each", dialed)
	}
}

// TestDrain: a call under way is answered, no other is accepted, and the
// socket is gone.
func TestDrain(t *testing.T) {
	d := start(t, nil)
	d.call("VolumeDriver.Create", map[string]any{"Name": "data"})
	d.pool.began, d.pool.hold = make(chan struct{}), make(chan struct{})
	answered := make(chan error, 1)
	go func() {
		status, text, err := post(t.Context(), d.socket, "VolumeDriver.Mount", []byte(`{"Name":"data","ID":"c1"}`))
		if err == nil && status != 200 {
			err = errors.New(text)
		}
		answered <- err
	}()
	<-d.pool.began
	drained := make(chan error, 1)
	go func() { drained <- d.server.Shutdown(t.Context()) }()
	d.eventually("the socket is gone", func() bool {
		_, err := os.Lstat(d.socket)
		return errors.Is(err, os.ErrNotExist)
	})
	select {
	case err := <-drained:
		t.Fatalf("drained under a call: %v", err)
	default:
	}
	close(d.pool.hold)
	if err := <-answered; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	if err := <-drained; err != nil {
		t.Errorf("drain: %v", err)
	}
	if at := d.mountpoints(); len(at) != 1 {
		t.Errorf("mounts after the drain: %v, want the one", at)
	}
}
