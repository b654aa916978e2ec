package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Disk is a file with a file system in it that hosts can attach as a block
// device. Each has a loop device of its own, and, where it is mounted, a
// superblock of its own: attached to one it is that host's disk, to several a
// LUN that they share. Then no two may have it mounted at once, which nobody
// but the test sees to.
type Disk struct {
	file string
}

// NewDisk makes a disk with ext4 in a file, such as one of a host's or a
// cluster's directory.
func NewDisk(ctx context.Context, file string, size int64) (*Disk, error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("make disk: %w", err)
	}
	out, err := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", file).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("make disk %s: %w: %s", file, err, out)
	}
	return &Disk{file}, nil
}

// Device is a disk as a host has it, until Detach or until the host goes down.
type Device struct {
	m      *Machine
	device *os.File // the kernel takes it away when it is neither open nor mounted
	serial string   // tells it from what has its number later
}

// Attach gives a host that is up a device that shows the disk.
func (d *Disk) Attach(h *Host) (*Device, error) {
	if !h.Up() {
		return nil, fmt.Errorf("attach disk: %s is down", h.name)
	}
	device, err := attachLoop(d.file)
	if err != nil {
		return nil, fmt.Errorf("attach disk to %s: %w", h.name, err)
	}
	serial, err := os.ReadFile(sysfs(device, "diskseq"))
	if err != nil {
		device.Close()
		return nil, fmt.Errorf("attach disk to %s: %w", h.name, err)
	}
	attached := &Device{h.Machine, device, string(serial)}
	h.devices = append(h.devices, attached)
	return attached, nil
}

// attachLoop has an unused loop device show a file. Unlike losetup it looks at
// no other device, one of which may hang.
func attachLoop(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
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
		if err = unix.IoctlLoopConfigure(int(device.Fd()), &config); err == nil {
			return device, nil
		}
		device.Close()
		if !errors.Is(err, unix.EBUSY) { // somebody else was faster
			return nil, err
		}
	}
}

// Path is the device's, the same inside and outside.
func (d *Device) Path() string { return d.device.Name() }

// Mount mounts the device in the host at dir, which is made.
func (d *Device) Mount(dir string) error {
	err := d.m.inside(unix.CLONE_NEWNS, func() error {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		return unix.Mount(d.Path(), dir, "ext4", 0, "")
	})
	if err != nil {
		return fmt.Errorf("mount %s at %s: %w", d.Path(), dir, err)
	}
	return nil
}

// Unmount undoes Mount. One that is in use is an error.
func (d *Device) Unmount(dir string) error {
	err := d.m.inside(unix.CLONE_NEWNS, func() error { return unix.Unmount(dir, unix.UMOUNT_NOFOLLOW) })
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}

// Detach takes the device away from the host and waits until it is gone. One
// that is mounted is an error, and stays.
func (d *Device) Detach() error {
	const patience = 10 * time.Second
	path := d.Path()
	d.device.Close() // another time is no harm
	for deadline := time.Now().Add(patience); d.exists(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("detach %s from %s: it is in use %v later", path, d.m.name, patience)
		}
	}
	d.m.devices = slices.DeleteFunc(d.m.devices, func(other *Device) bool { return other == d })
	return nil
}

// exists tells whether the device still shows the disk.
func (d *Device) exists() bool {
	_, err := os.Stat(sysfs(d.device, "loop"))
	serial, _ := os.ReadFile(sysfs(d.device, "diskseq"))
	return err == nil && string(serial) == d.serial
}

// sysfs is where the kernel says something about a block device.
func sysfs(device *os.File, name string) string {
	return filepath.Join("/sys/block", filepath.Base(device.Name()), name)
}

// detachAll detaches what is attached to a machine that has ended.
func (m *Machine) detachAll() error {
	var errs []error
	for _, d := range slices.Clone(m.devices) {
		errs = append(errs, d.Detach())
	}
	return errors.Join(errs...)
}
