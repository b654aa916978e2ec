package lab

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Beat is a line that the command beat has written.
type Beat struct {
	At   time.Duration // when, on the clock of SinceBoot
	Seq  int           // counts the beats of one process, from 1
	Host string
}

// beatLine is what beat writes. No piece of it before another is one again.
var beatLine = regexp.MustCompile(`^([0-9]{18}) ([0-9]{1,9}) ([a-zA-Z0-9_.-]+)\n$`)

// Beats reads a file that beat has written, on one host or several. It returns
// what it can read, in the order of the file, and an error that names each line
// that is torn, older than one before it, or does not count on from what its
// host wrote before: then one was lost. A process counts from 1.
//
// In front of its first there may be NULs, of what the process before was at when it was cut off, and had not
// synced: ext4 and XFS may have the length of a file on the disk before what is appended to it.
func Beats(file string) ([]Beat, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	beats, err := ParseBeats(string(text))
	if err != nil {
		err = fmt.Errorf("%s: %w", file, err)
	}
	return beats, err
}

// ParseBeats is Beats for a text, such as what beat has printed.
func ParseBeats(text string) ([]Beat, error) {
	return parseBeats(text, func(Beat) (clock string) { return "" })
}

// ParseBeatsByHost is ParseBeats for hosts that each have a clock of their own: a
// line may be older than one above it of another host.
func ParseBeatsByHost(text string) ([]Beat, error) {
	return parseBeats(text, func(b Beat) (clock string) { return b.Host })
}

func parseBeats(text string, clockOf func(Beat) string) ([]Beat, error) {
	var beats []Beat
	var errs []error
	latest := make(map[string]time.Duration) // by each clock
	last := make(map[string]int)             // each host's number
	number := 0
	for line := range strings.Lines(text) {
		number++
		b, err := parseBeat(line)
		if err != nil {
			errs = append(errs, fmt.Errorf("line %d: %w", number, err))
			continue
		}
		beats = append(beats, b)
		clock := clockOf(b)
		if b.At < latest[clock] {
			errs = append(errs, fmt.Errorf("line %d: %s wrote %d %v before a line above it", number, b.Host, b.Seq, latest[clock]-b.At))
		}
		latest[clock] = max(latest[clock], b.At)
		if seq := last[b.Host]; b.Seq != 1 && b.Seq != seq && b.Seq != seq+1 {
			errs = append(errs, fmt.Errorf("line %d: %s wrote %d after %d", number, b.Host, b.Seq, seq))
		}
		last[b.Host] = b.Seq
	}
	return beats, errors.Join(errs...)
}

// parseBeat reads a line, with its end.
func parseBeat(line string) (Beat, error) {
	fields := beatLine.FindStringSubmatch(strings.TrimLeft(line, "\x00"))
	if fields == nil || line[0] == 0 && fields[2] != "1" {
		return Beat{}, fmt.Errorf("%q is torn", line)
	}
	at, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return Beat{}, err
	}
	seq, err := strconv.Atoi(fields[2])
	return Beat{At: time.Duration(at), Seq: seq, Host: fields[3]}, err
}
