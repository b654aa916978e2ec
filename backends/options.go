package backends

import (
	"fmt"
	"slices"
	"strings"
)

// CommonOptions are the volume options that mean the same for every pool.
// dvold takes them out of Request.Options before a backend sees it.
func CommonOptions() []string {
	return []string{"access", "adopt", "gid", "mode", "mount_wait", "pool", "retain", "size", "takeover", "uid"}
}

// CheckOptions returns ErrInvalid, with the names of all valid options, if
// given has one that is not among own, the options peculiar to a backend.
func CheckOptions(given map[string]string, own ...string) error {
	for name := range given {
		if slices.Contains(own, name) {
			continue
		}
		valid := append(CommonOptions(), own...)
		slices.Sort(valid)
		return fmt.Errorf("unknown option %q (valid: %s): %w", name, strings.Join(valid, ", "), ErrInvalid)
	}
	return nil
}
