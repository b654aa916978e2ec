//go:build ceph && cgo

package cephfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dvol/dvold/backends"
	"github.com/dvol/dvold/backends/ceph/cephtest"
)

// A mount that fails leaves no session, for which others would wait.
func TestMountOfWhatIsMissing(t *testing.T) {
	p := newFencingPool(t, nil)
	handle := "volumes/missing.0123456789ab"
	target := p.target(handle)
	if err := p.Mount(t.Context(), handle, target, backends.MountOptions{Alone: true}); !errors.Is(err, backends.ErrNotFound) {
		t.Errorf("mount: %v", err)
	}
	p.wantClients(0)
	p.wantNone()
	if all := cephtest.Admin(t, "ceph", "tell", "mds.cephfs:0", "session", "ls"); strings.Contains(all, filepath.Join(p.run, "cephfs", "pool")) {
		t.Errorf("the MDS has for sessions: %s", all)
	}
	if entries, err := os.ReadDir(target); err != nil || len(entries) > 0 {
		t.Errorf("left at its target: %v, %v", entries, err)
	}
}
