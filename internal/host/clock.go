package host

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// BootTime reads CLOCK_BOOTTIME, which goes on while the machine sleeps and is
// the same for all processes.
func BootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("read the clock: %v", err)) // every Linux since 2.6.39 has it
	}
	return time.Duration(ts.Nano())
}
