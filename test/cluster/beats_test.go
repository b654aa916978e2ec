package cluster_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// data is the directory that holds a volume's files.
func (c *cluster) data(name string) string {
	c.t.Helper()
	dirs, err := filepath.Glob(c.Path("shared/data/volumes/" + name + ".????????????"))
	if err != nil || len(dirs) != 1 {
		c.t.Fatalf("directories of volume %s = %v (%v), want one", name, dirs, err)
	}
	return dirs[0]
}

// longest is the longest pause in a file that beat has written.
func longest(t *testing.T, file string) (gap time.Duration) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var last float64
	lines := strings.Fields(string(text))
	for i, line := range lines {
		at, err := strconv.ParseFloat(line, 64)
		if err != nil {
			t.Fatalf("%s has the line %q", file, line)
		}
		if i > 0 {
			gap = max(gap, time.Duration((at-last)*float64(time.Second)))
		}
		last = at
	}
	if len(lines) < 2 {
		t.Fatalf("%s has %d beats", file, len(lines))
	}
	return gap
}

// wantBeating waits until the container that beats in a volume has written
// something more.
func (c *cluster) wantBeating(name string) {
	c.t.Helper()
	file := c.data(name) + "/beats"
	size := func() int64 {
		fi, err := os.Stat(file)
		if err != nil {
			return 0
		}
		return fi.Size()
	}
	first := size()
	for deadline := time.Now().Add(patience); size() <= first; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("nothing was written to %s for %v", name, patience)
		}
	}
}
