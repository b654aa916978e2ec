// Package host is dvold's view of the machine it runs on: mounts, mount
// tables, processes.
//
// It needs Linux 5.12. Paths are absolute and free of symbolic links, as the
// kernel writes them into its mount tables. Functions may be called
// concurrently, but those that change a mount not for the same target.
package host

import "errors"

// ErrBusy means that a process still uses the mount, which was left as it is.
var ErrBusy = errors.New("mount is busy")
