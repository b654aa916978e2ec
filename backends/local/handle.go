package local

import (
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/dvol/dvold/backends"
)

// Directories of the pool.
const (
	volumesDir = "volumes"
	workDir    = "work"
)

// unfinished ends the name of a volume that is being made.
const unfinished = ".new"

// madeHandle returns the handle of a volume to be made.
func madeHandle(id string) (string, error) {
	if !isID(id) {
		return "", fmt.Errorf("volume ID %q is not fit to be a file name: %w", id, backends.ErrInvalid)
	}
	return path.Join(volumesDir, id), nil
}

// adoptedHandle returns the handle of a directory to be adopted.
func adoptedHandle(adopt string) (string, error) {
	if !fs.ValidPath(adopt) || adopt == "." || strings.ContainsRune(adopt, 0) {
		return "", fmt.Errorf(`adopt: %q is not a path relative to the pool and free of ".", ".." and needless slashes: %w`, adopt, backends.ErrInvalid)
	}
	// A file system may ignore case.
	first, _, _ := strings.Cut(adopt, "/")
	if strings.EqualFold(first, volumesDir) || strings.EqualFold(first, workDir) {
		return "", fmt.Errorf("adopt: %q lies where dvold keeps volumes of its own: %w", adopt, backends.ErrInvalid)
	}
	return adopt, nil
}

// madeID returns the ID in the handle of a volume that was made here.
func madeID(handle string) (id string, ok bool) {
	id, ok = strings.CutPrefix(handle, volumesDir+"/")
	return id, ok && isID(id)
}

// checkHandle returns ErrInvalid for what is no handle.
func checkHandle(handle string) error {
	if _, ok := madeID(handle); ok {
		return nil
	}
	if _, err := adoptedHandle(handle); err != nil {
		return fmt.Errorf("%q is not the handle of a volume: %w", handle, backends.ErrInvalid)
	}
	return nil
}

// isID tells whether id and what may be added to it is a file name.
func isID(id string) bool {
	return fs.ValidPath(id) && id != "." && !strings.ContainsAny(id, "/\x00") &&
		!strings.HasSuffix(id, unfinished) && len(id)+len(unfinished) <= 255
}
