package lab_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

func TestRebootCommand(t *testing.T) {
	t.Parallel()
	c := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: 2})
	h := c.Host(1)
	beats := beating(t, c, h)
	for n := 1; n <= 2; n++ {
		before := lab.SinceBoot()
		if _, err := h.Exec(t.Context(), lab.RebootCommand, "because"); err == nil {
			t.Error("the command came back")
		}
		check(t, h.WaitDown(t.Context()))
		after := lab.SinceBoot()
		if h.Up() {
			t.Error("the host is up")
		}
		if beats() {
			t.Error("a container runs on")
		}
		if h.Engine.Running() {
			t.Error("dockerd runs on")
		}
		if _, err := h.Exec(t.Context(), "true"); err == nil {
			t.Error("a host that is down runs a command")
		}
		ping(t, c.Host(2), "h1", false)
		all, err := h.Reboots()
		check(t, err)
		const resolution = 10 * time.Millisecond
		if len(all) != n || all[n-1] < before-resolution || all[n-1] > after+resolution {
			t.Errorf("reboots %v, want %d, the last from %v to %v", all, n, before, after)
		}
		check(t, h.Boot(t.Context()))
		check(t, h.StartAll(t.Context()))
		ping(t, c.Host(2), "h1", true)
		docker(t, h, "start", strings.Fields(docker(t, h, "ps", "-aq"))[0])
		eventually(t, "a beat after the reboot", beats)
	}
}

// Only a machine's own processes can end it, and none but it.
func TestRebootCommandRefuses(t *testing.T) {
	t.Parallel()
	c := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: 2})
	h1, h2 := c.Host(1), c.Host(2)
	var ended *exec.ExitError
	if out, err := exec.Command(h1.Path("etc/lab/reboot")).CombinedOutput(); !errors.As(err, &ended) || ended.ExitCode() != 1 {
		t.Errorf("on this machine: %v %s", err, out)
	}
	if _, err := h2.Exec(t.Context(), h1.Path("etc/lab/reboot")); err == nil {
		t.Error("h2 ends h1")
	}
	if _, err := h1.Exec(t.Context(), "unshare", "--pid", "--fork", "--mount-proc", lab.RebootCommand); err == nil {
		t.Error("a container ends its host")
	}
	if !h1.Up() || !h2.Up() {
		t.Error("a host is down")
	}
	for _, h := range c.Hosts() {
		if all, err := h.Reboots(); err != nil || len(all) != 0 {
			t.Errorf("reboots of %s: %v, %v", h.Name(), all, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := h1.WaitDown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for a host that is up to go down: %v", err)
	}
}

func TestSysrqIsHarmless(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/sysrq-trigger"); err != nil {
		t.Skipf("this kernel has no sysrq: %v", err)
	}
	h := lab.ForTest(t, lab.Options{})
	mounts, err := h.Mounts("/proc")
	check(t, err)
	if !strings.Contains(strings.Join(mounts, " "), "/proc/sysrq-trigger") {
		t.Fatalf("nothing is mounted at /proc/sysrq-trigger: %v", mounts) // or this machine would do what follows
	}
	run(t, h, "sh", "-c", "echo h >/proc/sysrq-trigger")
	if text, err := os.ReadFile(h.Path("sysrq")); err != nil || string(text) != "h\n" {
		t.Errorf("got %q, %v", text, err)
	}
}
