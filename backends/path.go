package backends

import (
	"io/fs"
	"strings"
)

// IsPlainPath tells whether p is a relative path that leads straight down, and fit to be
// printed.
func IsPlainPath(p string) bool { return fs.ValidPath(p) && p != "." && !HasControl(p) }

// HasControl tells whether text has control characters.
func HasControl(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}
