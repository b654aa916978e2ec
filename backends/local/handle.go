package local

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/dvol/dvold/backends"
)

// Directories of the pool.
const (
	volumesDir      = "volumes"
	workDir         = "work"
	descriptionsDir = "descriptions"
	stampsDir       = "stamps"
)

// What ends the name of a volume that is being made, or deleted.
const (
	unfinished = ".new"
	discarded  = ".gone"
)

// projectMark begins what follows the ID in the name of a volume with a size:
// the number of its project, as 8 hexadecimal digits.
const projectMark = "@"

// madeHandle returns the handle of a volume to be made, with a project unless
// that is 0.
func madeHandle(id string, project uint32) (string, error) {
	name := id
	if project != 0 {
		name = fmt.Sprintf("%s%s%08x", id, projectMark, project)
	}
	if strings.Contains(id, projectMark) || !isName(name) {
		return "", fmt.Errorf("volume ID %q is not fit to be a file name: %w", id, backends.ErrInvalid)
	}
	return path.Join(volumesDir, name), nil
}

// projectOf returns the project of the volume name, or 0.
func projectOf(name string) uint32 {
	_, digits, _ := strings.Cut(name, projectMark)
	n, err := strconv.ParseUint(digits, 16, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// adoptedHandle returns the handle of a directory to be adopted.
func adoptedHandle(adopt string) (string, error) {
	if !backends.IsBelow(adopt) {
		return "", fmt.Errorf(`adopt: %q is not a path relative to the pool and free of ".", ".." and needless slashes: %w`, adopt, backends.ErrInvalid)
	}
	// A file system may ignore case.
	first, _, _ := strings.Cut(adopt, "/")
	for _, own := range []string{volumesDir, workDir, descriptionsDir, stampsDir} {
		if strings.EqualFold(first, own) {
			return "", fmt.Errorf("adopt: %q lies where dvold keeps what is its own: %w", adopt, backends.ErrInvalid)
		}
	}
	return adopt, nil
}

// madeName returns the name of the directory of a volume that was made here.
func madeName(handle string) (name string, ok bool) {
	name, ok = strings.CutPrefix(handle, volumesDir+"/")
	if !ok || !isName(name) {
		return "", false
	}
	return name, true
}

// checkHandle returns ErrInvalid for what is no handle.
func checkHandle(handle string) error {
	if _, ok := madeName(handle); ok {
		return nil
	}
	if _, err := adoptedHandle(handle); err != nil {
		return fmt.Errorf("%q is not the handle of a volume: %w", handle, backends.ErrInvalid)
	}
	return nil
}

// Touched are the paths in a pool of what a host looks at or changes that comes to
// have a volume, but for what is in the volume: "" is the pool itself.
func Touched(id, handle string) []string {
	touched := []string{"", volumesDir, workDir, stampsDir, path.Join(stampsDir, id+stamps().suffix)}
	for dir := handle; dir != "." && dir != "/" && dir != volumesDir; dir = path.Dir(dir) {
		touched = append(touched, dir)
	}
	return touched
}

// isName tells whether name and what may be added to it is a file name, and
// what follows a mark in it is a project.
func isName(name string) bool {
	_, digits, marked := strings.Cut(name, projectMark)
	return backends.IsBelow(name) && !strings.Contains(name, "/") &&
		!strings.HasSuffix(name, unfinished) && !strings.HasSuffix(name, discarded) && len(name)+len(discarded) <= 255 &&
		(!marked || len(digits) == 8 && projectOf(name) >= firstProject)
}
