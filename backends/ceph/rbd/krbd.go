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
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph"
	"github.com/dvol/dvold/internal/upkeep"
)

// krbd maps images with the kernel's client; see Documentation/ABI/testing/sysfs-bus-rbd
// in the kernel's sources. Each is a client by itself (noshare), and keeps the lock of
// the image from all others (exclusive), which it takes before it reads (lock_on_read).
type krbd struct {
	config Config
	log    *slog.Logger
	adds   *upkeep.Attempts // by image

	mu    sync.Mutex       // guards the field below
	known []netip.AddrPort // where the pool's monitors are, or were
}

func newKrbd(c Config, log *slog.Logger) *krbd {
	return &krbd{config: c, log: log, adds: upkeep.NewAttempts()}
}

// devices are where the kernel lists what it has mapped.
const devices = kernelMapper + "/devices"

func (k *krbd) find(i image) (*mapping, error) {
	number, err := k.number(i)
	if err != nil || number == "" {
		return nil, err
	}
	if k.adds.Left(i.name) {
		return nil, fmt.Errorf("an earlier attempt to map it came too late, and is being undone: try again: %w", backends.ErrUnavailable)
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

var errByOther = errors.New("not by dvold")

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
		ours, err := k.knows(monitors)
		if err != nil {
			return "", err
		}
		if !ours {
			continue
		}
		// What dvold maps is a client by itself, see add.
		if !strings.Contains(options, "noshare") {
			return "", fmt.Errorf("image %s is mapped as /dev/rbd%s, and %w: rbd unmap it: %w", k.config.within(i.name), e.Name(), errByOther, backends.ErrInUse)
		}
		return e.Name(), nil
	}
	return "", nil
}

func (k *krbd) all() (all []image, err error) {
	entries, err := os.ReadDir(devices)
	for _, e := range entries {
		name, err := attribute(e.Name(), "name")
		if err != nil { // it has ended
			continue
		}
		// It may be another pool's, or somebody else's.
		if i := imageNamed(name); !slices.Contains(all, i) {
			if number, err := k.number(i); err == nil && number != "" {
				all = append(all, i)
			}
		}
	}
	return all, err
}

// resolveTime is how long names of monitors may take to be looked up for an image that is mapped
// already.
const resolveTime = 2 * time.Second

// knows tells whether one of some monitors, as add wrote them, is the pool's: others are of
// another cluster, which may have an image of that name, too.
func (k *krbd) knows(monitors string) (bool, error) {
	theirs := parseMonitors(monitors)
	if k.hasOneOf(theirs) { // nobody is asked then
		return true, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), resolveTime)
	defer cancel()
	all, failed := k.config.Cluster.MonitorAddresses(ctx)
	k.remember(all)
	if k.hasOneOf(theirs) {
		return true, nil
	}
	if failed != nil {
		return false, fmt.Errorf("whether it is this cluster's that is mapped is told by its monitors: %w: %w", failed, backends.ErrUnavailable)
	}
	return false, nil
}

// parseMonitors are the addresses in a list as the kernel is told it.
func parseMonitors(list string) (all []netip.AddrPort) {
	for m := range strings.SplitSeq(list, ",") {
		if a, ok := ceph.ParseMonitor(plainAddress(m)); ok {
			all = append(all, a)
		}
	}
	return all
}

// remember adds to what is known of the pool's monitors.
func (k *krbd) remember(monitors []netip.AddrPort) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, a := range monitors {
		if !slices.Contains(k.known, a) {
			k.known = append(k.known, a)
		}
	}
}

func (k *krbd) hasOneOf(monitors []netip.AddrPort) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(monitors, func(a netip.AddrPort) bool {
		return slices.ContainsFunc(k.known, func(own netip.AddrPort) bool { return ceph.SameMonitor(own, a) })
	})
}

func attribute(number, name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(devices, number, name))
	return string(bytes.TrimSpace(text)), err
}

// gone tells whether a device ended while it was looked at: others come and go.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) }

func (k *krbd) detach(ctx context.Context, i image) error {
	number, err := k.number(i)
	if errors.Is(err, errByOther) {
		return nil // that is not dvold's to take away
	}
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
