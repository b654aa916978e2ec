package lab_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

func TestHostsReachEachOther(t *testing.T) {
	t.Parallel()
	c := lab.ClusterForTest(t, lab.ClusterOptions{})
	for _, from := range c.Hosts() {
		for _, to := range c.Hosts() {
			ping(t, from, to.Name(), true)
		}
		if out := run(t, from, "ip", "-o", "-4", "address", "show", "dev", "eth0"); !strings.Contains(out, from.Address().String()+"/24") {
			t.Errorf("eth0 of %s: %s", from.Name(), out)
		}
		if out := run(t, from, "hostname"); out != from.Name() {
			t.Errorf("hostname of %s = %q", from.Name(), out)
		}
	}
	run(t, c.Host(1), "sh", "-c", "echo hello >/shared/x")
	if out := run(t, c.Host(3), "cat", "/shared/x"); out != "hello" {
		t.Errorf("h3 reads %q", out)
	}
	ids := make(map[string]bool)
	for _, h := range c.Hosts() {
		ids[run(t, h, "cat", "/etc/machine-id")] = true
	}
	if len(ids) != 3 {
		t.Errorf("machine IDs = %v, want 3", ids)
	}
}

func TestConsulHasLeader(t *testing.T) {
	t.Parallel()
	c := lab.ClusterForTest(t, lab.ClusterOptions{Servers: 3})
	if err := c.StartConsul(t.Context()); err != nil {
		t.Fatal(err)
	}
	first, err := c.Leader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range c.Hosts() {
		var leader string
		consul(t, h.Machine, "status/leader", &leader)
		if want := first.Address().String() + ":8300"; leader != want {
			t.Errorf("leader that %s sees = %q, want %q", h.Name(), leader, want)
		}
	}
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another leader", func() bool {
		second, err := c.Leader(t.Context())
		return err == nil && second != first
	})
	if err := first.Boot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := first.Consul.Start(t.Context()); err != nil {
		t.Error(err)
	}
}

// ping checks whether a host is answered by a machine.
func ping(t *testing.T, h *lab.Host, to string, want bool) {
	t.Helper()
	// A connection that is refused has been there and back.
	_, err := h.Exec(t.Context(), "busybox", "timeout", "0.5", "busybox", "nc", to, "9")
	if got := err != nil && strings.Contains(err.Error(), "refused"); got != want {
		t.Errorf("%s is answered by %s: %v, want %v (%v)", h.Name(), to, got, want, err)
	}
}

// consul asks a machine's Consul.
func consul(t *testing.T, m *lab.Machine, path string, answer any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := askConsul(ctx, m, path, answer); err != nil {
		t.Fatal(err)
	}
}

func askConsul(ctx context.Context, m *lab.Machine, path string, answer any) error {
	text, err := m.AskConsul(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, answer)
}
