package lab

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/internal/host"
)

// A host's dvold maps images of Ceph by rbd-fuse, a process for each, and a loop
// device that shows what that does. Processes and mounts go with a machine, but loop
// devices are its kernel's, which here is that of all machines: nobody takes away what one
// leaves that has ended.

// detachImages takes away the loop devices that a machine with that disk has left, which
// has ended. Their files are told by the mountpoints that dvold has left.
func detachImages(disk string) error {
	points, err := filepath.Glob(filepath.Join(disk, "run/dvol/rbd/*/*/*"))
	if err != nil || len(points) == 0 {
		return err
	}
	left := make(map[string]bool)
	for _, point := range points {
		left[filepath.Base(point)] = true
	}
	const patience = 10 * time.Second
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		devices, err := filepath.Glob("/sys/block/loop*")
		if err != nil {
			return err
		}
		var busy []string
		for _, device := range devices {
			detached, err := detachImage(device, left)
			if err != nil {
				return fmt.Errorf("detach %s: %w", filepath.Base(device), err)
			}
			if !detached {
				busy = append(busy, filepath.Base(device))
			}
		}
		if len(busy) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%v, of images, are in use %v after the machine has ended", busy, patience)
		}
	}
}

// detachImage detaches a device whose file is an image that has one of these
// mountpoints, and lies on a file system that is mounted nowhere any more. It tells whether
// that is done; of others there is nothing to do.
func detachImage(device string, points map[string]bool) (bool, error) {
	if !showsImage(device, points) {
		return true, nil
	}
	number, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(device), "loop"))
	if err != nil {
		return true, nil // a partition, or something else
	}
	f, err := os.Open(fmt.Sprint("/dev/loop", number))
	if errors.Is(err, unix.ENXIO) {
		return false, nil // it is going
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if !showsImage(device, points) { // from now on it stays what it is
		return false, nil
	}
	if _, err := unix.IoctlRetInt(int(f.Fd()), unix.LOOP_CLR_FD); err != nil && !errors.Is(err, unix.ENXIO) {
		return false, os.NewSyscallError("LOOP_CLR_FD", err)
	}
	return false, nil // it goes when it is closed
}

// showsImage tells whether a device's file is the image of one of these mountpoints.
// Of a file system that is mounted nowhere the kernel knows no more than its own paths.
func showsImage(device string, points map[string]bool) bool {
	file, err := host.BackingFile(device)
	if err != nil {
		return false
	}
	image, root := strings.CutPrefix(file, "/")
	// As dvold calls the mountpoint of an image, package rbd.
	sum := sha256.Sum256([]byte(image))
	return root && points[fmt.Sprintf("%x", sum[:10])]
}
