package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host/hosttest"
	"github.com/dvol/dvold/test/lab"
)

// With 10,000 volumes, all of them listed again and again, dvold stays small.
func TestMemoryOfManyVolumes(t *testing.T) {
	t.Parallel()
	lab.Require(t)
	const (
		volumes = 10_000
		limit   = 40 << 10 // KiB
	)
	// The binary of the other tests has the race detector, which needs many
	// times the memory. The host's disk is in memory, for each create syncs it.
	binary, err := lab.BuildDvold(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	h := lab.ForTest(t, lab.Options{Dvold: binary, Parent: hosttest.Tmpfs(t, "size=1g")})
	if err := h.StartDvold(t.Context(), "--log-level", "info"); err != nil {
		t.Fatal(err)
	}
	p := dialPlugin(t, h)
	for n := range volumes {
		p.call("VolumeDriver.Create", map[string]string{"Name": fmt.Sprintf("volume-%05d", n)})
	}
	for range 20 {
		var list struct{ Volumes []struct{ Name string } }
		if err := json.Unmarshal(p.call("VolumeDriver.List", struct{}{}), &list); err != nil {
			t.Fatal(err)
		}
		if len(list.Volumes) != volumes {
			t.Fatalf("%d volumes are listed, want %d", len(list.Volumes), volumes)
		}
	}
	rss := p.residentMemory()
	t.Logf("%d volumes: %d KiB resident", volumes, rss)
	if rss >= limit {
		t.Errorf("dvold has %d KiB resident with %d volumes, want less than %d", rss, volumes, limit)
	}
}

// pluginClient calls dvold without an engine, and ends the test on an error.
type pluginClient struct {
	t    *testing.T
	http http.Client
	pid  int // dvold's
}

// dialPlugin connects to the dvold of a host.
func dialPlugin(t *testing.T, h *lab.Host) *pluginClient {
	t.Helper()
	socket := h.Path("run/docker/plugins/dvol.sock")
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := &pluginClient{t: t, pid: listener(t, conn.(*net.UnixConn))}
	p.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	return p
}

// listener is the process at the other end of a connection.
func listener(t *testing.T, conn *net.UnixConn) int {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	pid := 0
	raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			t.Fatal(err)
		}
		pid = int(cred.Pid)
	})
	return pid
}

func (p *pluginClient) call(method string, arguments any) []byte {
	p.t.Helper()
	body, err := json.Marshal(arguments)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := p.http.Post("http://dvol/"+method, "application/json", bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		p.t.Fatalf("%s answers %s: %s", method, resp.Status, answer)
	}
	return answer
}

// residentMemory is that of dvold, in KiB.
func (p *pluginClient) residentMemory() int {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			return kib
		}
	}
	p.t.Fatalf("process %d has no VmRSS:\n%s", p.pid, status)
	return 0
}
