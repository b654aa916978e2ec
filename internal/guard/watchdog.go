package guard

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// watchdog is a device that reboots the machine unless it is fed, see the
// kernel's watchdog-api.rst. Nil is none.
type watchdog struct {
	fd    int
	path  string
	every time.Duration
	fed   time.Duration
	log   *slog.Logger
	sick  bool // it could not be fed
}

// openWatchdog starts the watchdog at path, if that is not empty. Its timeout is
// the time for a cut: if it is fed last when a lease ends, it strikes when the
// cut would have to be verified.
func openWatchdog(path string, timeout time.Duration, log *slog.Logger) (*watchdog, error) {
	if path == "" {
		return nil, nil
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the watchdog: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	d := &watchdog{fd: fd, path: path, every: min(time.Second, timeout/5), log: log}
	want := int((timeout + time.Second - 1) / time.Second)
	got, err := want, unix.IoctlSetPointerInt(fd, unix.WDIOC_SETTIMEOUT, want)
	if err == nil {
		got, err = timeoutOf(fd)
	}
	switch {
	case err != nil:
		log.Warn("the timeout of the watchdog is its own", "watchdog", path, "want", timeout, "err", err)
	case got > want:
		log.Warn("the watchdog strikes later than a cut may take", "watchdog", path, "seconds", got, "want", timeout)
	default:
		log.Info("the watchdog is on", "watchdog", path, "seconds", got)
	}
	return d, nil
}

func timeoutOf(fd int) (int, error) {
	got, err := unix.IoctlGetUint32(fd, unix.WDIOC_GETTIMEOUT)
	return int(got), err
}

// feed is called often. While a volume should have been cut by now, and is not,
// the watchdog starves.
func (d *watchdog) feed(now time.Duration, late bool) {
	if d == nil || late || d.fed != 0 && now-d.fed < d.every {
		return
	}
	_, err := unix.Write(d.fd, []byte{0})
	if err != nil && !d.sick {
		d.log.Error("the watchdog can't be fed", "watchdog", d.path, "err", err)
	}
	if d.sick = err != nil; !d.sick {
		d.fed = now
	}
}

// close lets the watchdog go: it stops if it is to, and strikes otherwise unless
// another guard comes in time.
func (d *watchdog) close(stop bool) error {
	if d == nil {
		return nil
	}
	var err error
	if stop {
		_, err = unix.Write(d.fd, []byte{'V'}) // the magic close
	}
	if err = errors.Join(err, unix.Close(d.fd)); err != nil {
		return fmt.Errorf("close the watchdog: %w", err)
	}
	return nil
}
