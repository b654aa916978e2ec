package backends

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

var sizePattern = regexp.MustCompile(`^([0-9]+)(?:([KMGTPkmgtp])[Ii]?)?[Bb]?$`)

// ParseSize reads a number of bytes, with K, M, G, T or P for powers of 1024;
// Ki or KiB and so on mean the same. It must be above 0.
func ParseSize(value string) (int64, error) {
	parts := sizePattern.FindStringSubmatch(value)
	if parts == nil {
		parts = []string{"", "", ""}
	}
	bits, known := map[string]uint{"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50}[strings.ToUpper(parts[2])]
	n, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || !known || n <= 0 || n > math.MaxInt64>>bits {
		return 0, fmt.Errorf("want a number above 0 with an optional K, M, G, T or P, such as 20G, and 8191P at most")
	}
	return n << bits, nil
}
