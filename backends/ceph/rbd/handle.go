package rbd

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"

	"github.com/dvol/dvold/backends"
)

// madePrefix begins the handle of a volume that was made here: the rest is its ID, and
// the name of its image. The handle of an adopted one is just the name of its image,
// in which there is no slash.
const madePrefix = "volumes/"

var (
	// What every volume's ID is like; see backends.Request.
	idPattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{1,199}\.[0-9a-f]{12}$`)
	// A name of an image is a word of a line that the kernel reads, and a file name.
	imagePattern = regexp.MustCompile(`^[^/@\s\x00-\x1f]{1,200}$`)
)

// madeHandle is the handle of a volume to be made.
func madeHandle(id string) (string, error) {
	if !idPattern.MatchString(id) {
		return "", fmt.Errorf("volume ID %q is not fit to be the name of an image: %w", id, backends.ErrInvalid)
	}
	return madePrefix + id, nil
}

// adoptedHandle is the handle of an image to be adopted. One that was made here has a
// volume already.
func adoptedHandle(image string) (string, error) {
	switch {
	case !imagePattern.MatchString(image) || image == "." || image == "..":
		return "", fmt.Errorf("adopt: %q is no name of an image that can be a volume: no slash, @ or space is in one: %w", image, backends.ErrInvalid)
	case idPattern.MatchString(image):
		return "", fmt.Errorf("adopt: %q is called as images are that dvold makes: rename it first: %w", image, backends.ErrInvalid)
	}
	return image, nil
}

// image is that of a volume.
type image struct {
	name    string
	adopted bool
}

// imageOf returns the image of a handle, or ErrInvalid for what is none.
func imageOf(handle string) (image, error) {
	if id, ok := strings.CutPrefix(handle, madePrefix); ok && idPattern.MatchString(id) {
		return image{name: id}, nil
	}
	if _, err := adoptedHandle(handle); err != nil {
		return image{}, fmt.Errorf("%q is not the handle of a volume: %w", handle, backends.ErrInvalid)
	}
	return image{name: handle, adopted: true}, nil
}

// imageNamed is the image of that name.
func imageNamed(name string) image { return image{name, !idPattern.MatchString(name)} }

// key is a short file name that no other image of the pool has.
func (i image) key() string {
	sum := sha256.Sum256([]byte(i.name))
	return fmt.Sprintf("%x", sum[:10])
}
