package lab_test

import (
	"os"
	"testing"
	"time"

	"github.com/dvol/dvold/test/lab"
)

// The guard lives and dies by itself, and with its host.
func TestGuard(t *testing.T) {
	t.Parallel()
	c := lab.ClusterForTest(t, lab.ClusterOptions{Hosts: 1, Dvold: buildDvold(t), Guard: true, Configure: func(string) string {
		return "guard: {reboot_command: " + lab.RebootCommand + "}\n"
	}})
	check(t, c.Start(t.Context()))
	h := c.Host(1)
	signs := func() time.Time {
		t.Helper()
		info, err := os.Stat(h.Path("run/dvol/guard/outcomes.json"))
		check(t, err)
		return info.ModTime()
	}
	watches := func(after string) {
		t.Helper()
		last := signs()
		eventually(t, "a sign of the guard "+after, func() bool { return signs().After(last) })
	}
	still := func(after string) {
		t.Helper()
		last := signs()
		time.Sleep(time.Second)
		if !signs().Equal(last) {
			t.Errorf("the guard goes on %s", after)
		}
	}
	watches("at first")
	check(t, h.FreezeDvold())
	watches("when dvold is frozen")
	check(t, h.KillDvold())
	watches("when dvold is killed")
	check(t, h.StartAll(t.Context()))
	check(t, h.Guard.Freeze())
	still("when it is frozen")
	run(t, h, "docker", "volume", "ls") // dvold answers
	check(t, h.Guard.Thaw())
	watches("when it is thawed")
	check(t, h.Freeze())
	still("when its host is frozen")
	check(t, h.Thaw())
	watches("when its host is thawed")
	check(t, h.Guard.Kill())
	if !h.Driver.Running() {
		t.Error("dvold died with the guard")
	}
	check(t, h.StartAll(t.Context()))
	watches("started again")
	check(t, h.Reboot(t.Context()))
	if h.Guard.Running() {
		t.Error("the guard survived a reboot")
	}
	check(t, h.StartAll(t.Context()))
	watches("after a reboot")
	check(t, h.Guard.Stop())
}
