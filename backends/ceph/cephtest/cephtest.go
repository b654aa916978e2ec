// Package cephtest gives tests a Ceph cluster in a world of their own.
package cephtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dvol/dvold/backends/ceph"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// address is set in the world; see testdata/cluster.bash.
const address = "CEPH_CLUSTER"

// Main runs the tests of a package in a world with a cluster, in which the test
// program is started once more. To be called by TestMain.
func Main(m *testing.M) {
	if os.Getenv(address) != "" || missing() != "" {
		os.Exit(m.Run())
	}
	os.Exit(hosttest.InWorld("backends/ceph/testdata/cluster.bash"))
}

// missing says what the tests need and this machine lacks, or is empty.
func missing() string {
	if os.Geteuid() != 0 {
		return "root"
	}
	for _, name := range []string{"ceph-mon", "ceph-osd", "ceph-mgr", "ceph-mds", "ceph", "rbd", "rbd-fuse", "ip", "nsenter", "iptables"} {
		if _, err := exec.LookPath(name); err != nil {
			return name
		}
	}
	return ""
}

// Need skips the test, or fails it where it is required, without a cluster.
func Need(t testing.TB) {
	t.Helper()
	hosttest.Need(t, "root", os.Geteuid() == 0)
	hosttest.Need(t, "ceph", os.Getenv(address) != "")
}

// Config is how a user of the cluster reaches it; see testdata/cluster.bash.
func Config(t testing.TB, user string) ceph.Config {
	Need(t)
	c := ceph.DefaultConfig()
	c.Monitors = []string{os.Getenv(address)}
	c.User = user
	c.Keyring = Keyring(user)
	c.ConnectTimeout, c.CallTimeout = 3*time.Second, 3*time.Second
	return c
}

// Keyring is the file with the key of a user, or, of "wrong", with one that is not
// that of the user host.
func Keyring(user string) string {
	return filepath.Join(os.Getenv("CEPH_KEYRINGS"), user+".keyring")
}

// Admin runs a command of Ceph's, such as "rbd", as the administrator, and returns its
// standard output.
func Admin(t testing.TB, command string, args ...string) string {
	t.Helper()
	cmd := exec.Command(command, append([]string{"--conf", os.Getenv("CEPH_ADMIN")}, args...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", command, strings.Join(args, " "), err, said.String())
	}
	return string(out)
}

// CutOff has the cluster refuse this host's packets until the test has ended, or heal
// is called.
func CutOff(t testing.TB) (heal func()) {
	t.Helper()
	rule := []string{"OUTPUT", "-d", os.Getenv(address), "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"}
	change := func(op string) {
		if out, err := exec.Command("iptables", append([]string{"-w", op}, rule...)...).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	change("-I")
	healed := false
	heal = func() {
		if !healed {
			healed = true
			change("-D")
		}
	}
	t.Cleanup(heal)
	return heal
}
