package local_test

import (
	"slices"
	"testing"

	"github.com/dvol/dvold/backends/local"
)

func TestTouched(t *testing.T) {
	always := []string{"", "volumes", "work", "stamps", "stamps/id.json"}
	for handle, want := range map[string][]string{
		"volumes/id": {"volumes/id"},
		"a/b":        {"a/b", "a"},
		".":          nil,
		"/a/b":       {"/a/b", "/a"}, // which is no handle
	} {
		if got := local.Touched("id", handle); !slices.Equal(got, append(always, want...)) {
			t.Errorf("%s: got %q, want %q besides", handle, got, want)
		}
	}
}
