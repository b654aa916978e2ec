package nfs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host/guest"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// forVolumes is the path of the disk to clients of version 4.
const forVolumes = "/volumes"

// fencing is a server that a program of examples/fence has refuse hosts.
type fencing struct {
	nfsServer
	program string
	disk    string // that is exported
	path    string // by which clients of version 4 find it
	file    string // of whom it admits, which the program changes
	admits  string // what that says before
	// options are more that it is mounted with.
	options string
	// hangs says that a host that is refused may wait, with version 4: it can't find out what became of its
	// opens.
	hangs bool
}

// nfsServer is one that can be ended, and started anew.
type nfsServer interface {
	kill(t *testing.T)
	start(t *testing.T)
}

// needFencing skips the test, or fails it where that is required, unless there is what such
// a server needs.
func needFencing(t *testing.T) {
	t.Helper()
	for _, command := range []string{"ganesha.nfsd", "rpcbind", "dbus-daemon", "dbus-send", "mkfs.ext4", "perl"} {
		_, err := exec.LookPath(command)
		hosttest.Need(t, command, err == nil)
	}
}

// newDisk mounts a file system that can be frozen.
func newDisk(t *testing.T) string {
	t.Helper()
	dir := hosttest.Tmpfs(t, "mode=755")
	image, disk := filepath.Join(dir, "image"), hosttest.Subdir(t, dir, "disk")
	run(t, "truncate", "--size=32M", image)
	run(t, "mkfs.ext4", "-q", image)
	run(t, "mount", "-o", "loop", image, disk)
	t.Cleanup(func() { run(t, "umount", disk) })
	return disk
}

// freezeDisk has all who write to a disk wait until it is thawed.
func freezeDisk(t *testing.T, disk string) (thaw func()) {
	t.Helper()
	run(t, "fsfreeze", "--freeze", disk)
	thawed := false
	thaw = func() {
		if !thawed {
			thawed = true
			run(t, "fsfreeze", "--unfreeze", disk)
		}
	}
	t.Cleanup(thaw)
	return thaw
}

// newFencing starts a Ganesha that exports a disk to the hosts, and a directory to whoever asks.
func newFencing(t *testing.T, disk string) *fencing {
	t.Helper()
	hosttest.Subdir(t, "/run", "dbus")
	start(t, "dbus-daemon", "--system", "--nofork", "--nopidfile")
	within(t, "D-Bus", func() bool {
		return exec.Command("dbus-send", "--system", "--print-reply", "--dest=org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.ListNames").Run() == nil
	})
	dir := hosttest.Dir(t)
	s := &fencing{program: "fence-ganesha", disk: disk, path: forVolumes, file: filepath.Join(dir, "volumes.conf")}
	s.admits = fmt.Sprintf(`EXPORT {
  Export_Id = 7; Path = %s; Pseudo = %s; Transports = TCP; Protocols = 3, 4; SecType = sys;
  Access_Type = None;
  FSAL { Name = VFS; }
  CLIENT { Clients = %s; Access_Type = RW; Squash = No_Root_Squash; } # h1
  CLIENT { Clients = %s; Access_Type = RW; Squash = No_Root_Squash; } # h2
}
`, disk, forVolumes, fencedAddress, serverAddress)
	writeText(t, s.file, s.admits)
	s.nfsServer = newGanesha(t, dir, serverAddress, nil, export{file: s.file}, export{path: hosttest.Subdir(t, dir, "hosts"), as: forHosts})
	return s
}

func writeText(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// fence runs the program, as fence-server does.
func (s *fencing) fence(action, host string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 80*time.Second) // the longest fence_timeout
	defer cancel()
	out, err := exec.CommandContext(ctx, filepath.Join(guest.Mnt, s.program), s.file, action, host).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", action, host, err, out)
	}
	return nil
}

func (s *fencing) mustFence(t *testing.T, action string) {
	t.Helper()
	begin := time.Now()
	if err := s.fence(action, "h1"); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s took %v", action, time.Since(begin).Round(time.Millisecond))
}

// mountArgs are the source and the options of a mount.
func (s *fencing) mountArgs(version string) []string {
	if version == "3" {
		return []string{serverAddress + ":" + s.disk, "addr=" + serverAddress + ",nosharecache,vers=3,proto=tcp,port=2049,nolock,mountport=20048,mountproto=tcp,mountaddr=" + serverAddress}
	}
	return []string{serverAddress + ":" + s.path, "addr=" + serverAddress + ",nosharecache,vers=" + version + s.options}
}

// mount mounts the export on h2 for a test, and returns where.
func (s *fencing) mount(t *testing.T, version string) (dir string) {
	t.Helper()
	dir = hosttest.Dir(t)
	args := s.mountArgs(version)
	if err := mountExport(args[0], dir, args[1]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// overwrite writes the beginning of a file, to the server's disk.
func overwrite(t *testing.T, path string, text []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_SYNC, 0o600)
	if err == nil {
		_, err = f.Write(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// has is what the server has of a file.
func (s *fencing) has(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.disk, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}
