package nfs

import (
	"context"
	"fmt"
	"os"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
)

// unlimited refuses sizes: NFS has no way to limit a directory.
type unlimited struct{}

var _ local.Limiter = unlimited{}

var errNoSizes = fmt.Errorf("size: NFS can't limit what a volume holds: leave it out, or choose another pool: %w", backends.ErrInvalid)

// Plan refuses.
func (unlimited) Plan(context.Context, *os.File, string) (uint32, error) { return 0, errNoSizes }

// Limit refuses.
func (unlimited) Limit(context.Context, *os.File, string, int64) error { return errNoSizes }

// Resize refuses.
func (unlimited) Resize(context.Context, *os.File, string, int64) error { return errNoSizes }

// Release has nothing to do.
func (unlimited) Release(context.Context, *os.File, *os.File, string) error { return nil }

// Usage is not known.
func (unlimited) Usage(*os.File, *os.File, string) (size, used int64, err error) { return 0, -1, nil }
