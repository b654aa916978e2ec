package host

import (
	"os"
	"path/filepath"
	"strings"
)

// BackingFile returns the path of the file that a loop device shows, whose directory in
// sysfs is device: as the kernel has it, in whatever mount namespace. No device is asked:
// it may hang. An error says that it shows none.
//
// The kernel says of some that they are deleted, which is left out: of a file of FUSE
// also once somebody has looked for it in vain, such as after its server has ended.
func BackingFile(device string) (string, error) {
	text, err := os.ReadFile(filepath.Join(device, "loop/backing_file"))
	return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), " (deleted)"), err
}
