package lab_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// Those that a host was connected to hear nothing of its end.
func TestRebootCommandIsSilent(t *testing.T) {
	t.Parallel()
	c := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: 2})
	h1, h2 := c.Host(1), c.Host(2)
	server := h1.Command(t.Context(), "busybox", "nc", "-l", "-p", "77", "-e", "busybox", "yes")
	check(t, h1.Start(server))
	served := make(chan error, 1)
	go func() { served <- server.Wait() }()
	var conn net.Conn
	eventually(t, "a connection", func() (ok bool) {
		var err error
		conn, err = h2.Dial(t.Context(), "tcp", h1.Address().String()+":77")
		return err == nil
	})
	defer conn.Close()
	_, err := io.ReadFull(conn, make([]byte, 100_000))
	check(t, err)
	h1.Exec(t.Context(), lab.RebootCommand)
	check(t, h1.WaitDown(t.Context()))
	<-served
	check(t, conn.SetReadDeadline(time.Now().Add(time.Second)))
	if _, err := io.Copy(io.Discard, conn); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("h2 reads %v, want to wait", err)
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

// Where this kernel has sysrq, no machine has: it would reboot them all.
func TestNoSysrq(t *testing.T) {
	t.Parallel()
	h := lab.ForTest(t, lab.Options{})
	if out, err := h.Exec(t.Context(), "sh", "-c", "echo h >>/proc/sysrq-trigger"); err == nil {
		t.Errorf("sysrq works in a machine: %s", out)
	}
}

// rebooter is set for the process that calls reboot(2).
const rebooter = "LAB_TEST_REBOOTER"

// The kernel ends a machine that reboots itself, and it alone.
func TestRebootCallEndsMachine(t *testing.T) {
	if os.Getenv(rebooter) != "" {
		first, err := os.ReadFile("/proc/1/cmdline")
		if err != nil || !strings.Contains(string(first), "/init.bash") {
			t.Fatalf("this is no machine of a lab, but of %q: %v", first, err)
		}
		t.Fatal(unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
	}
	t.Parallel()
	h := lab.ForTest(t, lab.Options{})
	cmd := h.Command(t.Context(), os.Args[0], "-test.run=^TestRebootCallEndsMachine$")
	cmd.Env = append(cmd.Env, rebooter+"=yes")
	var out bytes.Buffer
	cmd.Stdout = &out
	check(t, h.Start(cmd))
	if err := cmd.Wait(); err == nil || out.Len() > 0 {
		t.Errorf("it ended by itself: %v %s", err, out.String())
	}
	check(t, h.WaitDown(t.Context()))
	check(t, h.Boot(t.Context()))
	run(t, h, "true")
}
