package host_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
)

// namespaceOf opens the mount namespace of a child.
func namespaceOf(t *testing.T, pid int) *os.File {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// sameMount tells of a mount whether it has that number.
func sameMount(id int) func(*mountinfo.Info) bool {
	return func(m *mountinfo.Info) bool { return m.ID == id }
}

func TestInMountNamespace(t *testing.T) {
	source, target := pair(t)
	write(t, filepath.Join(source, "theirs"), "data")
	child := startChild(t, true, "bind", source, target)
	namespace := namespaceOf(t, child.Process.Pid)
	broken := errors.New("broken")
	err := host.InMountNamespace(namespace, func() error {
		if got := read(t, filepath.Join(target, "theirs")); got != "data" {
			t.Errorf("there: got %q", got)
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	for range 20 { // on whatever thread
		done := make(chan error)
		go func() {
			_, err := os.Stat(filepath.Join(target, "theirs"))
			done <- err
		}()
		if err := <-done; !os.IsNotExist(err) {
			t.Fatalf("here: got %v, want nothing", err)
		}
	}
	if err := host.InMountNamespace(nil, func() error { return broken }); !errors.Is(err, broken) {
		t.Errorf("in ours: got %v, want %v", err, broken)
	}
	if err := host.InMountNamespace(open(t, source), func() error { return nil }); err == nil {
		t.Error("in a directory: got no error")
	}
}

// All mounts are in the table, whatever the root directory of a process is, and
// whether or not there is a /proc.
func TestReadMountTable(t *testing.T) {
	source, target := pair(t)
	child := startChild(t, true, "bind", source, target)
	namespace := namespaceOf(t, child.Process.Pid)
	err := host.InMountNamespace(namespace, func() error {
		return unix.Unmount("/proc", unix.MNT_DETACH) // of theirs alone
	})
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := host.ReadMountTable(namespace)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := host.ReadMountTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	for who, table := range map[string]host.MountTable{"theirs": theirs, "ours": ours} {
		mounts, err := table.At(target)
		if err != nil || len(mounts) != map[string]int{"theirs": 1, "ours": 0}[who] {
			t.Errorf("%s: got %d mounts at %s, %v", who, len(mounts), target, err)
		}
		all, err := table.All()
		if err != nil {
			t.Fatal(err)
		}
		ids := slices.Collect(table.IDs())
		if len(ids) != len(all) || len(all) == 0 {
			t.Errorf("%s: got %d numbers of %d mounts", who, len(ids), len(all))
		}
		ofType, err := table.OfType("proc")
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range all {
			if ids[i] != m.ID {
				t.Errorf("%s: got number %d, want %d", who, ids[i], m.ID)
			}
			of, err := table.Of(m.Major, m.Minor)
			if err != nil || !slices.ContainsFunc(of, sameMount(m.ID)) {
				t.Errorf("%s: %s is not among the mounts of %d:%d, %v", who, m.Mountpoint, m.Major, m.Minor, err)
			}
			if got := slices.ContainsFunc(ofType, sameMount(m.ID)); got != (m.FSType == "proc") {
				t.Errorf("%s: %s of type %s is among those of type proc: %t", who, m.Mountpoint, m.FSType, got)
			}
		}
	}
	mounts, err := theirs.At(target)
	if err != nil {
		t.Fatal(err)
	}
	if of, err := theirs.Of(mounts[0].Major, mounts[0].Minor); err != nil || !slices.ContainsFunc(of, sameMount(mounts[0].ID)) {
		t.Errorf("the mount is not among those of its file system: %v", err)
	}
}
