package local_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/local"
	"github.com/dvol/dvold/internal/host/hosttest"
)

// What could not be made in a pool that can't be written to is undone there, or its name
// could not be used anywhere else. What does lie there is not removed.
func TestUndoWhereNothingCanBeWritten(t *testing.T) {
	const other = "other.0123456789ab"
	for name, used := range map[string]bool{"never used": false, "used": true} {
		t.Run(name, func(t *testing.T) {
			hosttest.Root(t)
			path := hosttest.Tmpfs(t, "mode=755")
			p := openPool(t, local.Config{Path: path})
			kept := plan(t, p, backends.Request{ID: other})
			if used {
				create(t, p, kept)
				if err := p.Describe(t.Context(), other, []byte("text")); err != nil {
					t.Fatal(err)
				}
			}
			if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
			v := plan(t, p, backends.Request{ID: id})
			if err := p.Create(t.Context(), v); err == nil {
				t.Fatal("created")
			}
			remove(t, p, v.Handle)
			describe(t, p, "")
			if !used {
				return
			}
			if err := p.Remove(t.Context(), kept.Handle); err == nil {
				t.Error("removed")
			}
			if err := p.Describe(t.Context(), other, nil); err == nil {
				t.Error("its description was taken away")
			}
		})
	}
}
