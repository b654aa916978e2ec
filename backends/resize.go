package backends

import (
	"context"
	"fmt"
)

// Resizer is a Backend that can change the size of a volume.
type Resizer interface {
	// Resize has a volume hold no more than size bytes from now on, or as much as
	// there is room for if size is 0. It may be mounted anywhere, and its users
	// notice nothing else. It returns ErrNotFound; and ErrInvalid for a volume or
	// a pool that can't have a size, and for a size below what the volume holds
	// already, in which nothing could be written. A writer may get in between,
	// so that a volume holds more than its new size after all: what is there
	// stays. After any other error either size may hold; a repetition settles it.
	Resize(ctx context.Context, handle string, size int64) error
}

// CheckResize returns ErrInvalid if size is none that a volume can get which
// holds used bytes.
func CheckResize(size, used int64) error {
	switch {
	case size < 0:
		return fmt.Errorf("size: %d is below 0: %w", size, ErrInvalid)
	case size != 0 && size < used:
		return fmt.Errorf("size: it holds %d bytes, more than %d: delete some first, or choose a size above: %w", used, size, ErrInvalid)
	}
	return nil
}
