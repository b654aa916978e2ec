package lab

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed reboot.bash
var rebootScript string

// RebootCommand is a program on every machine, for guard.reboot_command. It ends
// the machine at once, as Kill does, and notes the time on the machine's disk.
// Nobody boots the machine again but Boot. Anywhere else it refuses.
//
// A reboot(2) ends the machine, too. Nothing can be written to its
// /proc/sysrq-trigger.
const RebootCommand = "/etc/lab/reboot"

// Reboots tells when RebootCommand has ended the machine, on the clock of
// SinceBoot and to 10 ms.
func (m *Machine) Reboots() ([]time.Duration, error) {
	text, err := os.ReadFile(m.Path("etc/lab/reboots"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reboots of %s: %w", m.name, err)
	}
	var all []time.Duration
	for line := range strings.Lines(string(text)) {
		seconds, _, _ := strings.Cut(line, " ")
		at, err := time.ParseDuration(seconds + "s")
		if err != nil {
			return nil, fmt.Errorf("reboots of %s: line %q: %w", m.name, line, err)
		}
		all = append(all, at)
	}
	return all, nil
}

// SinceBoot is the time on CLOCK_BOOTTIME, which is one clock for this machine
// and all of the lab, and which the command beat writes down.
func SinceBoot() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic(err) // it has been there since Linux 2.6.39
	}
	return time.Duration(now.Nano())
}
