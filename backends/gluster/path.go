package gluster

import (
	"io/fs"
	"strings"
)

// isPlainPath tells whether p is a relative path that leads straight down.
func isPlainPath(p string) bool {
	return fs.ValidPath(p) && p != "." && !strings.ContainsRune(p, 0)
}
