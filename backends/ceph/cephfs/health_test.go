package cephfs_test

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// Storage that hangs is found out in time, and so is that it answers again.
func TestSilentStorage(t *testing.T) {
	p := newPool(t, nil)
	p.mount(p.create("data"), backends.MountOptions{})
	frozen := time.Now()
	t.Run("frozen", func(t *testing.T) {
		freeze(t, "ceph-mds")
		p.eventually("it is known", func() bool { return p.Silent() > 0 })
		t.Logf("it is known after %v", time.Since(frozen))
	})
	p.eventually("it answers again", func() bool { return p.Silent() == 0 })
}

// freeze stops a server of the tests' cluster, the only ones in this PID namespace,
// until the test has ended.
func freeze(t *testing.T, name string) {
	t.Helper()
	out, err := exec.Command("pgrep", "--exact", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	hosttest.Freeze(t, pid)
}
