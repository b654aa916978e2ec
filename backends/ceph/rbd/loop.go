//go:build ceph && cgo

package rbd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/internal/host"
)

// loopOf returns the loop device that shows a file, or nil. It asks sysfs alone: a
// device may hang (HAZARDS 18). Sysfs has the path as it is in whatever mount namespace, so
// the file must have one that no other host's has, see ownDir.
func loopOf(file string) (*block, error) {
	devices, err := filepath.Glob("/sys/block/loop*")
	if err != nil {
		return nil, err
	}
	for _, device := range devices {
		if shown, err := host.BackingFile(device); err != nil || shown != file { // it shows none, or another
			continue
		}
		b, err := blockAt("/dev/" + filepath.Base(device))
		if err != nil {
			return nil, err
		}
		return &b, nil
	}
	return nil, nil
}

// loopFiles are the files that loop devices show.
func loopFiles() (files []string, err error) {
	devices, err := filepath.Glob("/sys/block/loop*")
	for _, device := range devices {
		if shown, err := host.BackingFile(device); err == nil && shown != "" {
			files = append(files, shown)
		}
	}
	return files, err
}

// attachLoop has an unused loop device show a file.
func attachLoop(file *os.File, readOnly bool) (block, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return block{}, err
	}
	defer control.Close()
	flags, mode := uint32(0), os.O_RDWR
	if readOnly {
		flags, mode = unix.LO_FLAGS_READ_ONLY, os.O_RDONLY
	}
	for {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return block{}, os.NewSyscallError("LOOP_CTL_GET_FREE", err)
		}
		device, err := os.OpenFile("/dev/loop"+strconv.Itoa(number), mode, 0)
		if err != nil {
			return block{}, err
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: flags}}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		device.Close()
		if err == nil {
			return blockAt("/dev/loop" + strconv.Itoa(number))
		}
		if !errors.Is(err, unix.EBUSY) { // somebody else was faster
			return block{}, os.NewSyscallError("LOOP_CONFIGURE", err)
		}
	}
}

// detachLoop has a loop device show nothing any more, once all that was written is in
// the file, as far as that can still be: what can't, because its client was fenced or has
// died, lost says. It returns ErrInUse while a file system of it is mounted.
func detachLoop(ctx context.Context, b block, file string, lost func(error)) error {
	device, err := b.claim(os.O_RDWR)
	if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) {
		device, err = b.claim(os.O_RDONLY)
	}
	if err != nil {
		return err
	}
	if err := device.Sync(); err != nil {
		lost(err)
	}
	// It is told from another's that took its number meanwhile: nobody can, while it is claimed.
	now, err := loopOf(file)
	if err != nil || now == nil || *now != b {
		device.Close()
		return err
	}
	_, err = unix.IoctlRetInt(int(device.Fd()), unix.LOOP_CLR_FD)
	device.Close()
	if err != nil && !errors.Is(err, unix.ENXIO) {
		return os.NewSyscallError("LOOP_CLR_FD", err)
	}
	// Whoever else has it open, such as udev for a moment, keeps it.
	limit := time.Now().Add(endTime)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		now, err := loopOf(file)
		if err != nil || now == nil {
			return err
		}
		if ctx.Err() != nil || time.Now().After(limit) {
			return fmt.Errorf("something has %s open: %w", b.path, backends.ErrInUse)
		}
		time.Sleep(pause)
	}
}
