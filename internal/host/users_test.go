package host_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

func TestOtherUsers(t *testing.T) {
	source, target := pair(t)
	if err := host.BindMount(open(t, source), target, false); err != nil {
		t.Fatal(err)
	}
	inner := hosttest.Subdir(t, source, "inner")
	other := hosttest.Subdir(t, filepath.Dir(source), "source2")
	elsewhere := hosttest.Dir(t)
	at := func(name string) string { return hosttest.Subdir(t, elsewhere, name) }
	rootfs := at("rootfs")
	copied := hosttest.Subdir(t, rootfs, target)
	m := mountedAt(t, target)

	startChild(t, false, "wait")                           // in our namespace
	startChild(t, true, "wait")                            // a copy of our mount table
	startChild(t, true, "bind", source, copied)            // a monitor's view of it
	startChild(t, true, "bind", other, at("other"))        // an innocent neighbour
	startChild(t, true, "bind", filepath.Dir(source), "/") // a directory above
	if users := otherUsers(t, m); len(users) != 0 {
		t.Fatalf("got %+v, want no users", users)
	}

	same, below := at("same"), at("below")
	want := map[int]string{
		startChild(t, true, "bind", source, same).Process.Pid: same,
		startChild(t, true, "bind", inner, below).Process.Pid: below,
		// Only what comes second counts.
		startChild(t, true, "bind", source, copied, source, same).Process.Pid: same,
	}
	users := otherUsers(t, m)
	for _, u := range users {
		if want[u.PID] != u.Target || u.Command == "" {
			t.Errorf("got %+v, want target %q", u, want[u.PID])
		}
	}
	if len(users) != len(want) {
		t.Errorf("got %d users, want %d: %+v", len(users), len(want), users)
	}
}

// Namespaces, not processes, are counted, and an ended one is no user though
// nobody has waited for it.
func TestOtherUsersEnd(t *testing.T) {
	source, target := pair(t)
	if err := host.BindMount(open(t, source), target, false); err != nil {
		t.Fatal(err)
	}
	user := startChild(t, true, "bind", source, hosttest.Dir(t))
	m := mountedAt(t, target)
	if users := otherUsers(t, m); len(users) != 1 || users[0].PID != user.Process.Pid {
		t.Fatalf("got %+v, want %d", users, user.Process.Pid)
	}
	if err := user.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Waitid(unix.P_PID, user.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if users := otherUsers(t, m); len(users) != 0 {
		t.Errorf("after its end: got %+v, want no users", users)
	}
}

func otherUsers(t *testing.T, m *mountinfo.Info) []host.User {
	t.Helper()
	users, err := host.OtherUsers(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return users
}

// Who may not look into the namespaces of others still sees their mounts.
func TestOtherUsersOfHiddenNamespaces(t *testing.T) {
	source, target := pair(t)
	if err := os.Chmod(filepath.Dir(source), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := host.BindMount(open(t, source), target, false); err != nil {
		t.Fatal(err)
	}
	startChild(t, false, "wait")
	startChild(t, true, "wait")
	startChild(t, true, "bind", source, hosttest.Dir(t))
	// Of ours, and made last so that no other namespace has a copy.
	if err := host.BindMount(open(t, source), hosttest.Dir(t), false); err != nil {
		t.Fatal(err)
	}
	nobody := exec.Command("/proc/self/exe", childArg, "count-users", target)
	nobody.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	nobody.Dir = "/"
	output, err := nobody.CombinedOutput()
	if got, want := string(output), "1 <nil>\n"; got != want || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestOtherUsersObeysContext(t *testing.T) {
	hosttest.Root(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := host.OtherUsers(ctx, mountedAt(t, "/")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func BenchmarkOtherUsers(b *testing.B) {
	hosttest.Root(b)
	m, err := host.MountedAt("/proc")
	if err != nil || m == nil {
		b.Fatalf("no mount at /proc: %v", err)
	}
	for b.Loop() {
		if _, err := host.OtherUsers(b.Context(), m); err != nil {
			b.Fatal(err)
		}
	}
}
