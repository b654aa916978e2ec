package main

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/dvol/dvold/internal/host"
	"github.com/dvol/dvold/internal/host/hosttest"
)

func TestBareLeavesNoMount(t *testing.T) {
	hosttest.Root(t)
	dir := hosttest.Dir(t)
	b, err := newBare(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.file.Close()
	if err := b.pairAndSync(); err != nil {
		t.Fatal(err)
	}
	if mounts, err := host.MountsBelow(dir); err != nil || len(mounts) > 0 {
		t.Errorf("mounts = %v (%v), want none", mounts, err)
	}
	if fi, err := b.file.Stat(); err != nil || fi.Size() != 4096 {
		t.Errorf("the file has %d bytes (%v), want 4096", fi.Size(), err)
	}
}

func TestSleepersHaveNamespaces(t *testing.T) {
	hosttest.Root(t)
	s, err := startSleepers(3)
	if err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	seen := map[string]bool{namespace(t, os.Getpid()): true}
	for _, cmd := range s {
		seen[namespace(t, cmd.Process.Pid)] = true
	}
	if len(seen) != 4 {
		t.Errorf("%d mount namespaces, want 4: %v", len(seen), seen)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	for _, cmd := range s {
		if cmd.ProcessState == nil {
			t.Errorf("process %d was not waited for", cmd.Process.Pid)
		}
	}
}

func namespace(t *testing.T, pid int) string {
	t.Helper()
	ns, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

func TestSizeOfSelf(t *testing.T) {
	s, err := sizeOf(os.Getpid(), "this")
	if err != nil {
		t.Fatal(err)
	}
	if s.RSS < 1024 || s.Anon <= 0 || s.File <= 0 || s.Anon+s.File > s.RSS+1024 || s.Threads < 2 || s.Procs != 1 {
		t.Errorf("size = %+v, want that of a small Go program without children", s)
	}
	sleepers, err := startSleepers(2)
	if err != nil {
		t.Skipf("no children: %v", err)
	}
	defer sleepers.stop()
	if s, err := sizeOf(os.Getpid(), "this"); err != nil || s.Procs != 3 {
		t.Errorf("%d processes (%v), want 3", s.Procs, err)
	}
}
