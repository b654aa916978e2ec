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
