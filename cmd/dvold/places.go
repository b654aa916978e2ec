package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/dvol/dvold/internal/hang"
)

// place is a directory that the configuration names.
type place struct {
	in   []string // file systems of the network that have it, by names that may all stand for one; otherwise this host's
	path string   // as people know it
	real string   // in there, without symbolic links as far as they can be told
	open bool     // other users of this host than root come into it, as far as can be told
}

// checkPlaces returns an error if the directories of two pools are one, or one lies
// within the other: a directory could become two volumes, with two owners. Nor may
// dvold's own directories, by their keys, be within a pool's.
func checkPlaces(own map[string]place, pools map[string]opener) error {
	seen := make(map[string]place)
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		p := pools[name].place
		if p.path == "" {
			continue
		}
		for _, other := range slices.Sorted(maps.Keys(seen)) {
			if o := seen[other]; p.meets(o) && (p.within(o) || o.within(p)) {
				return fmt.Errorf("pools %q and %q overlap, at %v and %v: give each a directory of its own", other, name, o, p)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(own)) {
			if d := own[key]; d.meets(p) && d.within(p) {
				return fmt.Errorf("pool %q: its path %v has dvold's own %s in it, %v: give it a directory of its own", name, p, key, d)
			}
		}
		seen[name] = p
	}
	return nil
}

// meets tells whether two places may be in one file system.
func (p place) meets(other place) bool {
	return len(p.in)+len(other.in) == 0 || slices.ContainsFunc(p.in, func(name string) bool { return slices.Contains(other.in, name) })
}

func (p place) within(other place) bool {
	between, err := filepath.Rel(other.real, p.real)
	return err == nil && filepath.IsLocal(between) && (len(p.in) == 0 || !isGroup(between))
}

// isGroup tells whether a path is one of a CephFS's groups of sub-volumes, or in one. A pool
// that is all of a CephFS keeps its own volumes beside those, and adopts nothing there.
func isGroup(dir string) bool {
	below, ok := strings.CutPrefix(dir, "volumes/")
	return ok && !madeVolume.MatchString(below)
}

// madeVolume matches what begins with the directory of a volume that dvold made.
var madeVolume = regexp.MustCompile(`^[^/]*\.[0-9a-f]{12}(/|$)`)

func (p place) String() string {
	if p.path == p.real || len(p.in) > 0 {
		return p.path
	}
	return fmt.Sprintf("%s (which is %s)", p.path, p.real)
}

// makeStateDir makes the directory, for root alone. One that an earlier dvold made has the
// default pool in it, and others were let through.
func makeStateDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm() == 0o711 {
		err = os.Chmod(path, 0o700)
	}
	return err
}

// located is the configuration of a pool in a file system of the network.
type located interface {
	Location() string
	Place() (names []string, dir string)
}

// placeIn is where a pool of a type lies. Who names its servers otherwise each time is on
// their own.
func placeIn(kind string, c located) place {
	names, dir := c.Place()
	p := place{path: c.Location(), real: path.Join("/", dir)}
	for _, name := range names {
		p.in = append(p.in, kind+" "+name)
	}
	return p
}

// findTime is how long the symbolic links of a path may take, which may lie on a
// storage that hangs: a host starts with that, too.
const findTime = 2 * time.Second

func findPlace(ctx context.Context, path string) place {
	path = filepath.Clean(path)
	ctx, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	found, err := hang.Call(ctx, new(hang.Calls), path, func() (place, error) {
		real := withoutLinks(path)
		return place{path: path, real: real, open: isOpen(real)}, nil
	}, nil)
	if err != nil {
		return place{path: path, real: path}
	}
	return found
}

// isOpen tells whether other users than root come into a directory, as far as its mode
// and those on the way there tell.
func isOpen(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o011 == 0 {
			return false
		}
		if dir == "/" {
			return true
		}
	}
}

// withoutLinks resolves what exists of an absolute path, and leaves the rest.
func withoutLinks(path string) string {
	real, err := filepath.EvalSymlinks(path)
	if err == nil {
		return real
	}
	if path == "/" {
		return path
	}
	return filepath.Join(withoutLinks(filepath.Dir(path)), filepath.Base(path))
}
