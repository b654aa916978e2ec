package lab_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

func TestCutAndHeal(t *testing.T) {
	t.Parallel()
	c := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: 2, Servers: 1})
	storage, err := c.AddStorage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	h, server := c.Host(1), c.Servers()[0].Address().String()
	all := map[string]bool{server: true, storage.Address().String(): true, "h2": true}
	tests := map[lab.Peer]map[string]bool{
		lab.Consul:  {server: false, storage.Address().String(): true, "h2": true},
		lab.Storage: {server: true, storage.Address().String(): false, "h2": true},
		lab.All:     {server: false, storage.Address().String(): false, "h2": false},
	}
	reaches := func(want map[string]bool) {
		t.Helper()
		for to, ok := range want {
			ping(t, h, to, ok)
		}
	}
	for from, want := range tests {
		for range 2 { // again is fine
			if err := h.Cut(t.Context(), from); err != nil {
				t.Fatal(err)
			}
		}
		reaches(want)
		if err := h.Reboot(t.Context()); err != nil {
			t.Fatal(err)
		}
		reaches(want)
		if err := h.Heal(t.Context()); err != nil {
			t.Fatal(err)
		}
		reaches(all)
	}
	if err := h.Cut(t.Context(), "everything"); err == nil {
		t.Error("cut off from a kind of peer that there isn't")
	}
}

func TestAgentSurvivesCut(t *testing.T) {
	t.Parallel()
	c := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: 2, Servers: 1})
	if err := c.StartConsul(t.Context()); err != nil {
		t.Fatal(err)
	}
	h := c.Host(1)
	leader := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var nodes []any // that takes an answer of the leader
		return askConsul(ctx, h.Machine, "catalog/nodes", &nodes) == nil
	}
	eventually(t, "an answer", leader)
	gossips := func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		conn, err := c.Host(2).Dial(ctx, "tcp", h.Address().String()+":8301")
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	if !gossips() {
		t.Error("its agent can't be reached by another")
	}
	if err := h.Cut(t.Context(), lab.Consul); err != nil {
		t.Fatal(err)
	}
	if leader() {
		t.Error("the server answers in spite of the cut")
	}
	if gossips() {
		t.Error("it can tell other hosts that the server is dead")
	}
	ping(t, h, "h2", true)
	if err := h.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Rejoin(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an answer after the cut", leader)
	if !gossips() {
		t.Error("its agent can't be reached after the cut")
	}
}

// beating starts a container that writes to a file in /shared, and returns a
// function that tells whether it still does.
func beating(t *testing.T, c *lab.Cluster, h *lab.Host) func() bool {
	t.Helper()
	start(t, h)
	docker(t, h, "run", "-d", "--network", "host", "--stop-signal", "KILL", "-v", "/shared:/shared", lab.BusyBox,
		"sh", "-c", "while :; do echo x >>/shared/beats; sleep 0.01; done")
	file := c.Path("shared/beats")
	eventually(t, "the first beat", func() bool { return fileSize(t, file) > 0 })
	return func() bool {
		before := fileSize(t, file)
		for deadline := time.Now().Add(500 * time.Millisecond); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			if fileSize(t, file) > before {
				return true
			}
		}
		return false
	}
}

func TestFreezeAndThaw(t *testing.T) {
	t.Parallel()
	c := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: 2})
	h := c.Host(1)
	beats := beating(t, c, h)
	for range 3 {
		if err := h.Freeze(); err != nil {
			t.Fatal(err)
		}
		if beats() {
			t.Error("a container of a frozen host runs")
		}
		if _, err := h.Exec(t.Context(), "true"); !errors.Is(err, lab.ErrFrozen) {
			t.Errorf("command on a frozen host: %v, want ErrFrozen", err)
		}
		if err := h.Cut(t.Context(), lab.All); err != nil {
			t.Errorf("cut a frozen host off: %v", err)
		}
		if err := h.Thaw(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a beat after thawing", beats)
		ping(t, c.Host(2), "h1", false)
		if err := h.Heal(t.Context()); err != nil {
			t.Fatal(err)
		}
		ping(t, c.Host(2), "h1", true)
	}
	docker(t, h, "ps")
}

func TestKilledHostIsSilent(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		name := map[bool]string{false: "running", true: "frozen"}[frozen]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: 2})
			h := c.Host(1)
			beats := beating(t, c, h)
			if frozen {
				if err := h.Freeze(); err != nil {
					t.Fatal(err)
				}
			}
			size := fileSize(t, c.Path("shared/beats"))
			if err := h.Kill(); err != nil {
				t.Fatal(err)
			}
			if beats() || frozen && fileSize(t, c.Path("shared/beats")) != size {
				t.Error("a container of a killed host ran on")
			}
			if h.Up() {
				t.Error("the host is up")
			}
			if _, err := h.Exec(t.Context(), "true"); err == nil {
				t.Error("a killed host runs a command")
			}
			ping(t, c.Host(2), "h1", false)
			if err := h.Kill(); err != nil {
				t.Errorf("kill once more: %v", err)
			}
			if err := h.Boot(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := h.StartAll(t.Context()); err != nil {
				t.Fatal(err)
			}
			ping(t, c.Host(2), "h1", true)
			if out := docker(t, h, "ps", "-aq"); out == "" {
				t.Error("the disk lost a container")
			}
		})
	}
}

func TestTwoClusters(t *testing.T) {
	t.Parallel()
	a := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: 2})
	b := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: 2})
	run(t, a.Host(1), "touch", "/shared/a")
	if _, err := os.Stat(b.Path("shared/a")); err == nil {
		t.Error("the clusters share /shared")
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	ping(t, b.Host(1), "h2", true)
	if err := a.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestFrozenDaemonIsStill(t *testing.T) {
	t.Parallel()
	c := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: 1, Servers: 1})
	if err := c.StartConsul(t.Context()); err != nil {
		t.Fatal(err)
	}
	agent := c.Host(1).Agent
	if err := agent.Freeze(); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		var leader string
		answered <- askConsul(t.Context(), c.Host(1).Machine, "status/leader", &leader)
	}()
	select {
	case err := <-answered:
		t.Errorf("a frozen agent answers: %v", err)
		answered <- err
	case <-time.After(300 * time.Millisecond):
	}
	if err := agent.Thaw(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("after thawing: %v", err)
	}
	if err := agent.Kill(); err != nil {
		t.Fatal(err)
	}
	if agent.Running() {
		t.Error("a killed agent runs")
	}
	if err := agent.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := agent.Stop(); err != nil {
		t.Error(err)
	}
}
