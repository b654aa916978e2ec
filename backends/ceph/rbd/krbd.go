//go:build ceph && cgo

package rbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
)

// krbd maps images with the kernel's client; see Documentation/ABI/testing/sysfs-bus-rbd
// in the kernel's sources. Each is a client by itself (noshare), and keeps the lock of
// the image from all others (exclusive), which it takes before it reads (lock_on_read).
type krbd struct {
	config Config
	log    *slog.Logger
	adding sync.Mutex // one at a time
}

// devices are where the kernel lists what it has mapped.
const devices = kernelMapper + "/devices"

func (k *krbd) find(i image) (*mapping, error) {
	number, err := k.number(i)
	if err != nil || number == "" {
		return nil, err
	}
	b, err := blockAt("/dev/rbd" + number)
	if errors.Is(err, fs.ErrNotExist) { // udev or devtmpfs is at it
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	readOnly, err := b.isReadOnly()
	if err != nil {
		return nil, err
	}
	address, err := attribute(number, "client_addr")
	if err != nil {
		return nil, err
	}
	return &mapping{block: b, readOnly: readOnly, client: ceph.Address(plainAddress(address))}, nil
}

// plainAddress is an address without the kind that newer kernels begin it with, as
// "(1)10.0.0.7:0/2816492101".
func plainAddress(text string) string {
	if _, rest, ok := strings.Cut(text, ")"); ok && strings.HasPrefix(text, "(") {
		return rest
	}
	return text
}

// number is that of an image's device, or empty if it is not mapped.
func (k *krbd) number(i image) (string, error) {
	entries, err := os.ReadDir(devices)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		same := true
		for name, want := range map[string]string{"pool": k.config.Pool, "pool_ns": k.config.Namespace, "name": i.name, "current_snap": "-"} {
			got, err := attribute(e.Name(), name)
			if gone(err) { // or the kernel knows no namespaces
				got, err = "", nil
			}
			if err != nil {
				return "", err
			}
			same = same && got == want
		}
		if !same {
			continue
		}
		how, err := attribute(e.Name(), "config_info") // as add writes it
		if gone(err) {
			continue
		}
		if err != nil {
			return "", err
		}
		monitors, options, _ := strings.Cut(how, " ")
		if !k.knows(monitors) {
			continue
		}
		// What dvold maps is a client by itself, see add.
		if !strings.Contains(options, "noshare") {
			return "", fmt.Errorf("image %s is mapped as /dev/rbd%s, and not by dvold: rbd unmap it: %w", k.config.within(i.name), e.Name(), backends.ErrInUse)
		}
		return e.Name(), nil
	}
	return "", nil
}

// knows tells whether one of some monitors is the pool's: others are of another cluster,
// which may have an image of that name, too.
func (k *krbd) knows(monitors string) bool {
	bare := func(m string) string { // without the port, if that is the usual one
		return strings.TrimSuffix(plainAddress(m), ":6789")
	}
	for m := range strings.SplitSeq(monitors, ",") {
		if slices.ContainsFunc(k.config.Cluster.Monitors, func(own string) bool { return bare(own) == bare(m) }) {
			return true
		}
	}
	return false
}

func attribute(number, name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(devices, number, name))
	return string(bytes.TrimSpace(text)), err
}

// gone tells whether a device ended while it was looked at: others come and go.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }

func (k *krbd) attach(ctx context.Context, i image, readOnly bool) (*mapping, error) {
	if _, err := within(ctx, func() (struct{}, error) { return struct{}{}, k.add(i, readOnly) }); err != nil {
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

// add has the kernel map an image.
func (k *krbd) add(i image, readOnly bool) error {
	k.adding.Lock()
	defer k.adding.Unlock()
	runtime.LockOSThread() // whose keyring it is
	defer runtime.UnlockOSThread()
	_, forget, err := k.config.Cluster.AddKernelKey()
	if err != nil {
		return err
	}
	defer forget()
	monitors, err := k.monitors()
	if err != nil {
		return err
	}
	user := k.config.Cluster.User
	options := []string{"name=" + user, "key=client." + user, "noshare"}
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

// monitors are the addresses that the kernel is told, which knows no names.
func (k *krbd) monitors() (string, error) {
	var all []string
	for _, m := range k.config.Cluster.Monitors {
		if _, err := netip.ParseAddr(m); err != nil {
			if _, err := netip.ParseAddrPort(m); err != nil {
				return "", fmt.Errorf("krbd needs the addresses of the monitors, and %q is none: %w", m, backends.ErrUnavailable)
			}
		}
		all = append(all, m)
	}
	if len(all) == 0 {
		return "", fmt.Errorf("krbd needs the addresses of the monitors (cluster.monitors): %w", backends.ErrUnavailable)
	}
	return strings.Join(all, ","), nil
}

func (k *krbd) detach(ctx context.Context, i image) error {
	number, err := k.number(i)
	if err != nil || number == "" {
		return err
	}
	b, err := blockAt("/dev/rbd" + number)
	if err != nil {
		return err
	}
	// A claim would keep the device from going; without one, the kernel says EBUSY of
	// one that is open or mounted.
	f, err := b.claim(os.O_RDONLY)
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil { // its client was fenced
		k.log.Warn("what was written last did not reach the image", "image", i.name, "err", err)
	}
	f.Close()
	file := kernelMapper + "/remove_single_major"
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		file = kernelMapper + "/remove"
	}
	limit := time.Now().Add(endTime)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := os.WriteFile(file, []byte(number), 0o200)
		switch {
		case err == nil || errors.Is(err, unix.ENOENT):
			return nil
		case !errors.Is(err, unix.EBUSY):
			return fmt.Errorf("krbd: %w", err)
		case ctx.Err() != nil || time.Now().After(limit):
			return fmt.Errorf("something has %s open: %w", b.path, backends.ErrInUse)
		}
		time.Sleep(pause) // udev looks at it for a moment
	}
}

// refresh has the kernel look at the image, which it watches in any case.
func (k *krbd) refresh(i image, _ *mapping) error {
	number, err := k.number(i)
	if err != nil || number == "" {
		return err
	}
	return os.WriteFile(filepath.Join(devices, number, "refresh"), []byte("1"), 0o200)
}

// abandoner has nothing to end: the kernel says of all that is asked of a client which was
// fenced that it failed.
func (k *krbd) abandoner(image) (func() error, error) { return func() error { return nil }, nil }

// peers are none: once its file system is gone a device has nothing under way, and until
// then what is under way must come to an end.
func (k *krbd) peers(context.Context, image) ([]netip.Addr, error) { return nil, nil }
