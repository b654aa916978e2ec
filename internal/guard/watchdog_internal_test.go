package guard

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// device makes a FIFO that stands in for a watchdog, and returns how to take
// what it was fed.
func device(t *testing.T) (path string, fed func() string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "watchdog")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return path, func() string {
		if err := f.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		food := make([]byte, 100)
		n, _ := f.Read(food)
		return string(food[:n])
	}
}

func TestWatchdog(t *testing.T) {
	path, fed := device(t)
	var log strings.Builder
	d, err := openWatchdog(path, 5*time.Second, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "timeout of the watchdog is its own") {
		t.Errorf("a device without a timeout: %q", log.String())
	}
	if got := fed(); got != "" {
		t.Errorf("fed %q before the guard watches", got)
	}
	const s = time.Second
	for _, c := range []struct {
		now  time.Duration
		late bool
		want string
	}{
		{100 * s, false, "\x00"},
		{100*s + s/2, false, ""},
		{101 * s, false, "\x00"},
		{102 * s, true, ""},
		{110 * s, true, ""},
		{110*s + 1, false, "\x00"},
	} {
		if d.feed(c.now, c.late); fed() != c.want {
			t.Errorf("at %v, late: %v: not fed as it should be", c.now, c.late)
		}
	}
	if err := d.close(true); err != nil || fed() != "V" {
		t.Errorf("an orderly end: %v", err)
	}
	d, err = openWatchdog(path, time.Second, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 { // a short timeout wants more
		d.feed(100*s+time.Duration(i)*s/10, false)
	}
	if got := fed(); got != strings.Repeat("\x00", 5) {
		t.Errorf("fed %q in a second", got)
	}
	if err := d.close(false); err != nil || fed() != "" {
		t.Errorf("an end with orders: %v", err)
	}
}

func TestNoWatchdog(t *testing.T) {
	d, err := openWatchdog("", time.Second, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	d.feed(time.Second, false)
	if err := d.close(true); err != nil {
		t.Error(err)
	}
	if _, err := openWatchdog(filepath.Join(t.TempDir(), "missing"), time.Second, slog.New(slog.DiscardHandler)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// A watchdog that can't be fed is an error of one line, not one a second.
func TestWatchdogIsGone(t *testing.T) {
	path, _ := device(t)
	var log strings.Builder
	d, err := openWatchdog(path, time.Second, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	for range 100_000 { // until the FIFO is full
		d.feed(time.Second, false)
		d.fed = 0
	}
	if got := strings.Count(log.String(), "can't be fed"); got != 1 {
		t.Errorf("it says so %d times", got)
	}
	if err := d.close(false); err != nil {
		t.Error(err)
	}
}
