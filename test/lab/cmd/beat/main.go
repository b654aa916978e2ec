// Command beat writes to a file, again and again, what the time is, and says
// when that has reached the storage. Package lab reads what it has written.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

const usage = `usage: beat [-host NAME] FILE [INTERVAL]

Appends a line to FILE every INTERVAL (50ms), and syncs it:

    NANOSECONDS SEQUENCE HOST

The first is the time on CLOCK_BOOTTIME before the line was written, in 18
digits, the second counts from 1. A line that has reached the storage is printed. After an error,
which is printed too, the file is opened anew and the number used again.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "beat:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("beat", flag.ExitOnError)
	flags.Usage = func() { fmt.Fprint(flags.Output(), usage) }
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	flags.StringVar(&name, "host", name, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	interval := 50 * time.Millisecond
	switch flags.NArg() {
	case 1:
	case 2:
		if interval, err = time.ParseDuration(flags.Arg(1)); err != nil {
			return err
		}
		if interval <= 0 {
			return fmt.Errorf("interval %v is not above 0", interval)
		}
	default:
		flags.Usage()
		os.Exit(2)
	}
	beat(ctx, flags.Arg(0), name, interval)
	return nil
}

// beat beats until ctx ends.
func beat(ctx context.Context, path, host string, interval time.Duration) {
	var file *os.File
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for seq := 1; ctx.Err() == nil; {
		line, err := "", error(nil)
		if file == nil {
			file, err = os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		}
		if err == nil {
			line, err = write(file, seq, host)
		}
		if err == nil {
			seq++
			fmt.Print(line)
		} else {
			fmt.Fprintln(os.Stderr, "beat:", err)
			file.Close() // it may be nil
			file = nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// write appends a line and returns it once it is on the storage.
func write(file *os.File, seq int, host string) (string, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return "", err
	}
	line := fmt.Sprintf("%018d %d %s\n", now.Nano(), seq, host)
	if _, err := file.WriteString(line); err != nil {
		return "", err
	}
	return line, file.Sync()
}
