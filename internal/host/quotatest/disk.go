package quotatest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host/hosttest"
)

// diskSize is the least that mkfs.xfs takes, and some more.
const diskSize = 400 << 20

// Disk returns a block device with a new file system, which the command mkfs
// makes. The kernel takes the device away when the test has ended, or died,
// and nothing of it is mounted.
func Disk(t testing.TB, mkfs ...string) string {
	t.Helper()
	hosttest.Root(t)
	path := filepath.Join(hosttest.Dir(t), "disk")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(diskSize); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), mkfs[0], append(mkfs[1:], path)...)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", mkfs, err, output)
	}
	device, err := attach(file)
	if err != nil {
		t.Fatalf("loop device: %v", err)
	}
	t.Cleanup(func() { device.Close() })
	return device.Name()
}

// attach has an unused loop device show file for as long as it is open or
// mounted. Unlike losetup it looks at no other device, one of which may hang.
func attach(file *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, err
		}
		device, err := os.OpenFile("/dev/loop"+strconv.Itoa(number), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if err == nil {
			return device, nil
		}
		device.Close()
		if !errors.Is(err, unix.EBUSY) { // somebody else was faster
			return nil, err
		}
	}
}

// Mount mounts a device at a new directory, until the test ends.
func Mount(t testing.TB, device, kind, options string) (dir string) {
	t.Helper()
	dir = hosttest.Dir(t)
	Remount(t, device, dir, kind, options)
	return dir
}

// Remount mounts a device at dir, instead of what is mounted there.
func Remount(t testing.TB, device, dir, kind, options string) {
	t.Helper()
	err := unix.Unmount(dir, 0)
	if err == nil || errors.Is(err, unix.EINVAL) { // not a mountpoint
		err = unix.Mount(device, dir, kind, 0, options)
	}
	if err != nil {
		t.Fatalf("mount %s at %s: %v", device, dir, err)
	}
}
