package backends

import (
	"io/fs"
	"strings"
)

// IsBelow tells whether p is a relative path that leads straight down, and that the kernel
// takes as it is.
func IsBelow(p string) bool { return fs.ValidPath(p) && p != "." && !strings.ContainsRune(p, 0) }

// IsPlainPath is IsBelow, and tells whether p is fit to be printed.
func IsPlainPath(p string) bool { return IsBelow(p) && !HasControl(p) }

// Overlap tells whether two paths are one, or one lies within the other.
func Overlap(a, b string) bool {
	a, b = strings.TrimSuffix(a, "/")+"/", strings.TrimSuffix(b, "/")+"/"
	return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
}

// HasControl tells whether text has control characters.
func HasControl(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}
