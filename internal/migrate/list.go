package migrate

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/dvol/dvold/internal/volumes"
)

// maxDepth is how many directories may lie within each other below the volume's own. All
// that lead to one are held open, with their paths, twice for a copy: a container can make
// trees that would exhaust the memory, while no program that goes by paths gets near this.
const maxDepth = 256

// list returns the names in dir in order. It returns ErrInvalid if dir, at rel in the
// volume, lies too deep, so that whatever walks through a tree ends there.
func list(dir *os.File, rel string) ([]string, error) {
	if rel != "." && strings.Count(rel, "/") >= maxDepth {
		return nil, fmt.Errorf("there are directories in it deeper than %d levels, in %.60q: not migrated: copy it by other means: %w", maxDepth, rel, volumes.ErrInvalid)
	}
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	names, err := dir.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}
