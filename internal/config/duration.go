package config

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// maxDays is a hundred years, well below what a time.Duration holds.
const maxDays = 36500

// Duration is a length of time that may be written in days: "24h", "7d",
// "1d12h", "0". It is never negative.
type Duration struct{ time.Duration }

// UnmarshalText reads what the configuration says.
func (d *Duration) UnmarshalText(text []byte) error {
	invalid := fmt.Errorf("%q is not a time: want numbers with units, such as 30m, 24h, 7d or 1d12h, up to %dd", text, maxDays)
	parts := regexp.MustCompile(`^(?:(\d+)d)?(.*)$`).FindSubmatch(text)
	if parts == nil || len(text) == 0 {
		return invalid
	}
	var days int
	if len(parts[1]) > 0 {
		var err error
		if days, err = strconv.Atoi(string(parts[1])); err != nil || days > maxDays {
			return invalid
		}
	}
	var rest time.Duration
	if len(parts[2]) > 0 {
		var err error
		if rest, err = time.ParseDuration(string(parts[2])); err != nil {
			return invalid
		}
	}
	const day = 24 * time.Hour
	if rest < 0 || rest > maxDays*day {
		return invalid
	}
	d.Duration = time.Duration(days)*day + rest
	return nil
}
