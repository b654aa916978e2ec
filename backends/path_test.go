package backends_test

import (
	"testing"

	"github.com/dvol/dvold/backends"
)

func TestIsBelow(t *testing.T) {
	for path, want := range map[string]bool{
		"a": true, "a b/ü": true, "..a/.b": true, "a\nb": true,
		"": false, ".": false, "..": false, "/a": false, "a/": false, "a//b": false, "a/../b": false, "a\x00": false,
	} {
		if got := backends.IsBelow(path); got != want {
			t.Errorf("%q: got %t", path, got)
		}
	}
}

func TestIsPlainPath(t *testing.T) {
	for path, want := range map[string]bool{
		"a": true, "a b/ü": true, "..a/.b": true,
		"": false, ".": false, "..": false, "/a": false, "a/": false, "a//b": false, "a/../b": false,
		"a\nb": false, "a\x00": false, "a\x7f": false,
	} {
		if got := backends.IsPlainPath(path); got != want {
			t.Errorf("%q: got %t", path, got)
		}
	}
}

func TestOverlap(t *testing.T) {
	for paths, want := range map[[2]string]bool{
		{"a", "a"}: true, {"a", "a/b"}: true, {"a", "a/b/c"}: true, {"a", "ab"}: false, {"a/b", "a/c"}: false,
		{"/", "/"}: true, {"/", "/a"}: true, {"/a", "/a/b"}: true, {"/a", "/ab"}: false,
	} {
		if there, back := backends.Overlap(paths[0], paths[1]), backends.Overlap(paths[1], paths[0]); there != want || back != want {
			t.Errorf("%q: got %t and %t", paths, there, back)
		}
	}
}
