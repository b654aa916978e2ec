package volumes

import (
	"fmt"
	"regexp"
)

// maxName leaves room for the ID's suffix in a file name of 255 bytes.
const maxName = 200

// namePattern is that of Docker's own local driver; for other drivers the
// engine checks nothing, and "../../etc/x" arrives as it is.
var namePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// idPattern is that of a name, which the volume had at first, and what newID
// adds. IDs become paths, so stored ones are looked at again.
var idPattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,199}\.[0-9a-f]{12}$`)

func isID(id string) bool { return idPattern.MatchString(id) }

// CheckName returns ErrInvalid for what must not be a volume's name.
func CheckName(name string) error {
	if len(name) > maxName {
		return fmt.Errorf("volume name %.20q… is %d bytes long, the limit is %d: %w", name, len(name), maxName, ErrInvalid)
	}
	if !namePattern.MatchString(name) {
		return fmt.Errorf("volume name %.60q: use two or more of a-z A-Z 0-9 _ . - and begin with a letter or digit: %w", name, ErrInvalid)
	}
	return nil
}

// maxMountID is far above Docker's 64 hexadecimal digits.
const maxMountID = 256

func checkMountID(id string) error {
	if id == "" || len(id) > maxMountID {
		return fmt.Errorf("mount ID of %d bytes, want 1 to %d: %w", len(id), maxMountID, ErrInvalid)
	}
	return nil
}
