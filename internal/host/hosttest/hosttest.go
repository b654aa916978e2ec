// Package hosttest gives tests what they need of the machine they run on.
package hosttest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
)

// Root skips the test if it isn't run by root.
func Root(t testing.TB) {
	t.Helper()
	Need(t, "root", os.Geteuid() == 0)
}

// Need skips the test if the machine lacks what is needed. The test fails
// instead if the environment variable DVOLD_TEST_REQUIRE, a list separated by
// commas, names it: continuous integration skips nothing.
func Need(t testing.TB, what string, have bool) {
	t.Helper()
	if have {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("DVOLD_TEST_REQUIRE"), ","), what) {
		t.Fatalf("the test needs %s, which DVOLD_TEST_REQUIRE demands", what)
	}
	t.Skipf("SKIPPED: the test needs %s", what)
}

// Dir returns a new directory to mount things in, by its path in the mount
// table. In the end all that is mounted in it gets unmounted, and the
// directory removed once that is certain.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dvold-test-")
	if err != nil {
		t.Fatal(err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := clear(dir); err != nil {
			t.Errorf("clear %s: %v", dir, err)
		}
	})
	return dir
}

func clear(dir string) error {
	mounts, err := host.MountsBelow(dir)
	if err != nil {
		return err
	}
	// The last may stand on those before.
	for _, m := range slices.Backward(mounts) {
		err := unix.Unmount(m.Mountpoint, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		if err != nil && !errors.Is(err, unix.EINVAL) { // went with one before
			return err
		}
	}
	if mounts, err = host.MountsBelow(dir); err != nil {
		return err
	}
	if len(mounts) > 0 {
		return errors.New("there is still a mount at " + mounts[0].Mountpoint)
	}
	return os.RemoveAll(dir)
}

// Tmpfs returns a new directory that a tmpfs with the given options is mounted
// at. It needs root.
func Tmpfs(t testing.TB, options string) string {
	t.Helper()
	dir := Subdir(t, Dir(t), "tmpfs")
	if err := unix.Mount("dvold-test", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("mount tmpfs: %v", err)
	}
	return dir
}

// Subdir makes a directory in parent and returns its path.
func Subdir(t testing.TB, parent, name string) string {
	t.Helper()
	dir := filepath.Join(parent, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Start starts a command that ends with the test. It returns when the command
// has written a line to its standard output.
func Start(t testing.TB, command *exec.Cmd) {
	t.Helper()
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait() // reports the kill
	})
	if _, err := output.Read(make([]byte, 1)); err != nil {
		t.Fatalf("%v said nothing: %v", command.Args, err)
	}
}
