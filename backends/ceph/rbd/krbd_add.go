//go:build ceph && cgo

package rbd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
)

func (k *krbd) attach(ctx context.Context, i image, readOnly bool) (*mapping, error) {
	monitors, mode, err := k.config.Cluster.KernelMonitors(ctx)
	if err != nil {
		return nil, err
	}
	k.remember(parseMonitors(monitors)) // by which it is found
	add := func() error { return k.add(i, readOnly, monitors, mode) }
	if err := k.adds.Do(ctx, i.name, add, func() { k.undoLate(i) }); err != nil {
		return nil, err
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		m, err := k.find(i)
		if err != nil || m != nil {
			return m, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the kernel has mapped it, and there is no device: %w: %w", backends.ErrUnavailable, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

// undoLate takes away what was mapped when nobody waited for it any more.
func (k *krbd) undoLate(i image) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*endTime)
	defer cancel()
	if err := k.detach(ctx, i); err != nil {
		k.log.Warn("an image was mapped when nobody waited for that any more, and is not taken away", "image", k.config.within(i.name), "err", err)
	}
}

// add has the kernel map an image, by monitors, and an option that says how to speak to them, or "".
func (k *krbd) add(i image, readOnly bool, monitors, mode string) error {
	runtime.LockOSThread() // whose keyring it is
	defer runtime.UnlockOSThread()
	_, forget, err := k.config.Cluster.AddKernelKey()
	if err != nil {
		return err
	}
	defer forget()
	user := k.config.Cluster.User
	options := []string{"name=" + user, "key=client." + user, "noshare"}
	if mode != "" {
		options = append(options, mode)
	}
	if readOnly {
		options = append(options, "ro")
	} else {
		options = append(options, "exclusive", "lock_on_read", "lock_timeout=30")
	}
	if k.config.Namespace != "" {
		options = append(options, "_pool_ns="+k.config.Namespace)
	}
	line := strings.Join([]string{monitors, strings.Join(options, ","), k.config.Pool, i.name, "-"}, " ")
	file := kernelMapper + "/add_single_major"
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		file = kernelMapper + "/add"
	}
	err = os.WriteFile(file, []byte(line), 0o200)
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("another client has its lock: %w", backends.ErrInUse)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("krbd: the cluster refuses the key that %s has for client.%s: %w: %w", k.config.Cluster.KeyringPath(), user, err, backends.ErrUnavailable)
	case errors.Is(err, unix.EROFS):
		return fmt.Errorf("another client has its lock, or it is read-only for user client.%s: %w", user, backends.ErrInUse)
	case errors.Is(err, unix.ENXIO):
		return fmt.Errorf("the kernel does not know a feature of the image: see dmesg, and rbd feature disable: %w", err)
	case err != nil:
		return fmt.Errorf("krbd: %w", err)
	}
	return nil
}
