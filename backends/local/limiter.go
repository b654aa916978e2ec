package local

import (
	"context"
	"os"
)

// Limiter limits what volumes hold. A volume is dir, an open directory, and at,
// its path relative to root, that of the pool: while it is made and removed it
// lies elsewhere than its handle says. Project quotas are one; a file system
// that has a way of its own for it brings another.
//
// What may be repeated of a Backend, may be of a Limiter, and it returns the
// errors of package backends.
type Limiter interface {
	// Plan returns ErrInvalid, with what would help, if the pool at root can't
	// limit the volume to come, and otherwise the project that its handle is to
	// tell, or 0 if there is no need for one.
	Plan(ctx context.Context, root *os.File, id string) (project uint32, err error)

	// Limit limits a volume that is being made, and is empty.
	Limit(ctx context.Context, dir *os.File, at string, size int64) error

	// Resize is what backends.Resizer says, for a volume that was not adopted.
	Resize(ctx context.Context, dir *os.File, at string, size int64) error

	// Release takes the limit away from a volume, perhaps half made, that is
	// deleted next, if it has one.
	Release(ctx context.Context, root, dir *os.File, at string) error

	// Usage returns the limit that holds for a volume, 0 meaning none, and what
	// it holds, -1 meaning unknown.
	Usage(root, dir *os.File, at string) (size, used int64, err error)
}
